// What strangers, and ranks that lie, can do to a run: raw ZeroMQ sockets against its endpoints.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <zmq.hpp>

#include "base/check.h"
#include "transport/curve_keys.h"
#include "transport/frame_codec.h"
#include "transport/memory_store.h"
#include "transport/rank_group.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

const char* const kSecret = "a secret of more than sixteen bytes";

RunNonce NonceOf(MemoryStore& store) {
  const std::string text = store.TryGet("nonce").value();
  RunNonce nonce{};
  for (size_t i = 0; i < nonce.size(); ++i) {
    nonce[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return nonce;
}

// A socket of somebody's own that is connected to a rank.
class RawSender {
 public:
  explicit RawSender(const std::string& endpoint) { Open(endpoint); }
  RawSender(const std::string& endpoint, const CurveKeyPair& own, const CurveKeyPair& server) {
    socket_.set(zmq::sockopt::curve_serverkey, zmq::buffer(server.public_key));
    socket_.set(zmq::sockopt::curve_publickey, zmq::buffer(own.public_key));
    socket_.set(zmq::sockopt::curve_secretkey, zmq::buffer(own.secret_key));
    Open(endpoint);
  }

  // Does not wait: whoever was refused before has nobody left to send to, for ever.
  void Send(const std::vector<std::string>& parts) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool last = i + 1 == parts.size();
      const auto more = last ? zmq::send_flags::none : zmq::send_flags::sndmore;
      if (!socket_.send(zmq::buffer(parts[i]), more | zmq::send_flags::dontwait)) return;
    }
  }

  // Whether the next that happens to its connection is this: ZMQ_EVENT_HANDSHAKE_SUCCEEDED, one of
  // ZMQ_EVENT_HANDSHAKE_FAILED_..., ZMQ_EVENT_DISCONNECTED. Waits for it.
  bool Sees(int events) {
    zmq::pollitem_t wait{events_.handle(), 0, ZMQ_POLLIN, 0};
    if (zmq::poll(&wait, 1, std::chrono::seconds(20)) == 0) return false;
    zmq::message_t event;
    zmq::message_t address;
    uint16_t number = 0;
    if (!events_.recv(event) || !events_.recv(address) || event.size() < sizeof(number)) {
      return false;
    }
    std::memcpy(&number, event.data(), sizeof(number));
    return (number & events) != 0;
  }
  bool IsHeard() { return Sees(ZMQ_EVENT_HANDSHAKE_SUCCEEDED); }
  bool IsRefused() { return Sees(kRefusals | ZMQ_EVENT_DISCONNECTED); }

 private:
  static constexpr int kRefusals = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                   ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                   ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

  void Open(const std::string& endpoint) {
    const int events = kRefusals | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    Check(zmq_socket_monitor(socket_.handle(), "inproc://events", events) == 0, "no monitor");
    events_.connect("inproc://events");
    socket_.set(zmq::sockopt::linger, 1000);  // what was sent leaves before the end
    socket_.connect(endpoint);
  }

  zmq::context_t context_;
  zmq::socket_t events_{context_, zmq::socket_type::pair};
  zmq::socket_t socket_{context_, zmq::socket_type::push};
};

// Three ranks, of which rank 0 is attacked.
class ZeroMqAttack : public ::testing::Test {
 protected:
  void Connect(bool secret) {
    std::vector<RendezvousOptions> options = LoopbackRanks(3);
    for (RendezvousOptions& rank : options) {
      if (secret) rank.secret = Secret(kSecret);
      rank.transport.max_payload_bytes = 1 << 20;
      rank.transport.window_frames = window_frames_;
    }
    for (Outcome& outcome : Meet(options, store_)) {
      ASSERT_FALSE(outcome.error.has_value()) << outcome.error->what();
      ranks_.push_back(std::move(outcome.transport));
    }
    endpoint_ = store_->TryGet("endpoint/0").value();
    nonce_ = NonceOf(*store_);
  }

  // A header as rank 1 would send it, on a channel that nothing used yet.
  WireHeader Good() const {
    WireHeader header;
    header.from = 1;
    header.frame.channel = Channel::kTaps;
    return header;
  }
  std::string Bytes(const WireHeader& header) const {
    const auto bytes = EncodeHeader(header, nonce_);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  // The control that whatever `stranger` sent before has come in: a frame that is one does so after
  // it, and is the first that is heard. Without secrets nobody can tell its sender from rank 1.
  void ExpectToHearOnlyNow(RawSender& stranger) {
    WireHeader header = Good();
    header.frame.payload_bytes = 5;
    stranger.Send({Bytes(header), "heard"});
    const std::optional<Frame> frame = ranks_[0]->Receive(1, Channel::kTaps, Soon());
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(TextOf(*frame), "heard");
    ExpectTheRunLives();
  }

  void ExpectTheRunLives() {
    for (const auto& rank : ranks_) {
      ASSERT_FALSE(rank->failure().has_value()) << rank->failure()->what();
    }
    SendText(*ranks_[2], 0, Channel::kControl, "alive");
    ASSERT_TRUE(ranks_[0]->Receive(2, Channel::kControl, Soon()).has_value());
    EXPECT_FALSE(ranks_[0]->Receive(1, Channel::kTaps, In(milliseconds(0))).has_value());
  }

  void ExpectTheRunEndsNaming(const std::string& rank, const std::string& text) {
    for (const auto& each : ranks_) {
      const Error reason = FailureOf(*each);
      EXPECT_EQ(reason.kind(), ErrorKind::kTransport);
      EXPECT_EQ(reason.where().at("rank"), rank);
      EXPECT_NE(std::string(reason.what()).find(text), std::string::npos) << reason.what();
    }
  }

  int64_t window_frames_ = 1024;
  const std::shared_ptr<MemoryStore> store_ = std::make_shared<MemoryStore>();
  std::vector<std::unique_ptr<Transport>> ranks_;
  std::string endpoint_;
  RunNonce nonce_{};
};

TEST_F(ZeroMqAttack, StrangersAreNotHeard) {
  Connect(false);
  RawSender stranger(endpoint_);
  stranger.Send({""});
  stranger.Send({"GET / HTTP/1.1"});
  stranger.Send({std::string(72, '\0')});
  stranger.Send({std::string(72, '\xff'), "payload"});
  std::string other_run = Bytes(Good());
  other_run[8] = static_cast<char>(other_run[8] + 1);
  stranger.Send({other_run});
  stranger.Send({Bytes(Good()), "a", "third part"});
  stranger.Send(std::vector<std::string>(100, "x"));
  ExpectToHearOnlyNow(stranger);
}

TEST_F(ZeroMqAttack, MoreThanTheLargestPayloadIsNotEvenRead) {
  Connect(false);
  WireHeader header = Good();
  header.frame.payload_bytes = (1 << 20) + 1;
  RawSender stranger(endpoint_);
  stranger.Send({Bytes(header), std::string((1 << 20) + 1, 'x')});
  ASSERT_TRUE(stranger.IsHeard());
  EXPECT_TRUE(stranger.Sees(ZMQ_EVENT_DISCONNECTED));
  RawSender another(endpoint_);
  ExpectToHearOnlyNow(another);
}

TEST_F(ZeroMqAttack, WithASecretWhoSpeaksInClearIsNotHeard) {
  Connect(true);
  RawSender stranger(endpoint_);  // knows endpoint and nonce: all that the store holds
  stranger.Send({Bytes(Good())});
  EXPECT_TRUE(stranger.IsRefused());
  ExpectTheRunLives();
}

TEST_F(ZeroMqAttack, AKeyOfNoRankIsRefusedAlthoughItKnowsTheListenersKey) {
  Connect(true);
  const CurveKeys keys(Secret(kSecret), nonce_);
  RawSender stranger(endpoint_, keys.ForConnecting(17), keys.ForListening(0));
  stranger.Send({Bytes(Good())});
  EXPECT_TRUE(stranger.IsRefused());
  ExpectTheRunLives();
}

TEST_F(ZeroMqAttack, ARankCannotSpeakForAnother) {
  Connect(true);
  const CurveKeys keys(Secret(kSecret), nonce_);
  RawSender liar(endpoint_, keys.ForConnecting(2), keys.ForListening(0));
  liar.Send({Bytes(Good())});
  ExpectTheRunEndsNaming("1", "is named in a frame of rank 2");
}

TEST_F(ZeroMqAttack, ADifferentVersionIsNamed) {
  Connect(false);
  std::string bytes = Bytes(Good());
  bytes[4] = 2;
  RawSender(endpoint_).Send({bytes});
  ExpectTheRunEndsNaming("1", "protocol version is 2; expected 1");
}

TEST_F(ZeroMqAttack, AGapMeansLostFrames) {
  Connect(false);
  WireHeader header = Good();
  header.sequence = 1;
  RawSender(endpoint_).Send({Bytes(header)});
  ExpectTheRunEndsNaming("1", "frames were lost");
}

TEST_F(ZeroMqAttack, APayloadOfAnotherSizeIsRefused) {
  Connect(false);
  WireHeader header = Good();
  header.frame.payload_bytes = 10;
  RawSender(endpoint_).Send({Bytes(header), "nine byte"});
  ExpectTheRunEndsNaming("1", "promised 10 bytes and sent 9");
}

TEST_F(ZeroMqAttack, ARankThatIgnoresTheWindowIsNamed) {
  window_frames_ = 4;
  Connect(false);
  RawSender sender(endpoint_);
  WireHeader header = Good();
  for (; header.sequence < 5; ++header.sequence) sender.Send({Bytes(header)});
  ExpectTheRunEndsNaming("1", "sends more than the window allows");
}

TEST_F(ZeroMqAttack, ASecondProcessOfThisRankIsNamed) {
  Connect(false);
  WireHeader header = Good();
  header.from = 0;
  RawSender(endpoint_).Send({Bytes(header)});
  ExpectTheRunEndsNaming("0", "has two processes");
}

TEST(CurveKeys, DependOnSecretNonceRankAndDirection) {
  RunNonce nonce{};
  const CurveKeys keys(Secret(kSecret), nonce);
  const auto base = keys.ForListening(0).public_key;
  EXPECT_EQ(CurveKeys(Secret(kSecret), nonce).ForListening(0).public_key, base);
  EXPECT_NE(keys.ForConnecting(0).public_key, base);
  EXPECT_NE(keys.ForListening(1).public_key, base);
  EXPECT_NE(CurveKeys(Secret("another secret, long enough"), nonce).ForListening(0).public_key,
            base);
  nonce[15] = std::byte{1};
  EXPECT_NE(CurveKeys(Secret(kSecret), nonce).ForListening(0).public_key, base);
}

}  // namespace
}  // namespace xcomposer
