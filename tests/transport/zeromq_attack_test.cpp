// What strangers, and ranks that lie, can do to a run: raw ZeroMQ sockets against its endpoints.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <thread>
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
  explicit RawSender(const std::string& endpoint) : socket_(context_, zmq::socket_type::push) {
    Open(endpoint);
  }
  RawSender(const std::string& endpoint, const CurveKeyPair& own, const CurveKeyPair& server)
      : socket_(context_, zmq::socket_type::push) {
    socket_.set(zmq::sockopt::curve_serverkey, zmq::buffer(server.public_key));
    socket_.set(zmq::sockopt::curve_publickey, zmq::buffer(own.public_key));
    socket_.set(zmq::sockopt::curve_secretkey, zmq::buffer(own.secret_key));
    Open(endpoint);
  }

  void Send(const std::vector<std::string>& parts) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool last = i + 1 == parts.size();
      socket_.send(zmq::buffer(parts[i]), last ? zmq::send_flags::none : zmq::send_flags::sndmore);
    }
  }

 private:
  void Open(const std::string& endpoint) {
    socket_.set(zmq::sockopt::linger, 1000);  // what was sent leaves before the end
    socket_.connect(endpoint);
  }

  zmq::context_t context_;
  zmq::socket_t socket_;
};

// Three ranks, of which rank 0 is attacked.
class ZeroMqAttack : public ::testing::Test {
 protected:
  void Connect(bool secret) {
    std::vector<RendezvousOptions> options = LoopbackRanks(3);
    for (RendezvousOptions& rank : options) {
      if (secret) rank.secret = Secret(kSecret);
      rank.transport.max_payload_bytes = 1 << 20;
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

  void ExpectTheRunLives() {
    std::this_thread::sleep_for(milliseconds(150));
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
  ExpectTheRunLives();
}

TEST_F(ZeroMqAttack, MoreThanTheLargestPayloadIsNotEvenRead) {
  Connect(false);
  WireHeader header = Good();
  header.frame.payload_bytes = (1 << 20) + 1;
  RawSender(endpoint_).Send({Bytes(header), std::string((1 << 20) + 1, 'x')});
  ExpectTheRunLives();
}

TEST_F(ZeroMqAttack, WithASecretWhoSpeaksInClearIsNotHeard) {
  Connect(true);
  RawSender stranger(endpoint_);  // knows endpoint and nonce: all that the store holds
  stranger.Send({Bytes(Good())});
  ExpectTheRunLives();
}

TEST_F(ZeroMqAttack, AKeyOfNoRankIsRefusedAlthoughItKnowsTheListenersKey) {
  Connect(true);
  const CurveKeys keys(Secret(kSecret), nonce_);
  RawSender stranger(endpoint_, keys.ForConnecting(17), keys.ForListening(0));
  stranger.Send({Bytes(Good())});
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
