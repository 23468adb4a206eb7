#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "base/check.h"
#include "transport/curve_keys.h"
#include "transport/links.h"
#include "transport/zeromq_key_check.h"
#include "transport/zeromq_monitor.h"

namespace xcomposer {
namespace {

constexpr int kMessagesPerPoll = 256;  // so that a flood does not keep heartbeats from being sent

// Wakes a thread that polls sockets.
class WakeSignal {
 public:
  WakeSignal() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    Require(fd_ >= 0, ErrorKind::kTransport, "no event descriptor: ", std::strerror(errno));
  }
  WakeSignal(const WakeSignal&) = delete;
  WakeSignal& operator=(const WakeSignal&) = delete;
  ~WakeSignal() { close(fd_); }

  int fd() const { return fd_; }
  void Raise() {
    const uint64_t one = 1;
    // It can only fail where it is raised already.
    [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof(one));
  }
  void Clear() {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = read(fd_, &count, sizeof(count));
  }

 private:
  const int fd_;
};

// A payload that ZeroMQ holds until its bytes are sent.
struct Lent {
  explicit Lent(Payload lent) : payload(std::move(lent)) {}
  Payload payload;
  // The release here and the acquire in GiveBack order the caller's writes before the end of the
  // memory, which ZeroMQ's own queues do as well, but where no checker of races can see it.
  std::atomic<bool> handed_over{false};

  static void GiveBack(void* /*data*/, void* hint) {
    auto* lent = static_cast<Lent*>(hint);
    if (lent->handed_over.load(std::memory_order_acquire)) delete lent;
  }
};

zmq::message_t Lend(Payload payload) {
  std::byte* const data = payload.data;
  const auto size = static_cast<size_t>(payload.size);
  auto* lent = new Lent(std::move(payload));
  lent->handed_over.store(true, std::memory_order_release);  // nothing of it is read here any more
  return {data, size, &Lent::GiveBack, lent};
}

Payload Own(zmq::message_t message) {
  const auto size = static_cast<int64_t>(message.size());
  auto owner = std::make_shared<zmq::message_t>(std::move(message));
  auto* data = static_cast<std::byte*>(owner->data());
  if (reinterpret_cast<uintptr_t>(data) % 8 == 0) return {std::move(owner), data, size};
  // Messages of a few KiB share one buffer and begin anywhere in it.
  Payload copy = Payload::Allocate(size);
  if (size > 0) std::memcpy(copy.data, data, static_cast<size_t>(size));
  return copy;
}

std::optional<int> ProvenRank(const zmq::message_t& message) {
  const char* text = zmq_msg_gets(const_cast<zmq::message_t&>(message).handle(), "User-Id");
  if (text == nullptr) return std::nullopt;
  int rank = -1;
  std::from_chars(text, text + std::strlen(text), rank);
  return rank;
}

zmq::const_buffer Key(const std::array<uint8_t, 32>& key) { return zmq::buffer(key); }

zmq::context_t MakeContext(int world_size) {
  zmq::context_t context(1);
  // To every rank and channel a socket and the two of its monitor. Read with the first socket.
  context.set(zmq::ctxopt::max_sockets,
              std::max(1023, static_cast<int>(kChannelCount) * 3 * world_size + 64));
  return context;
}

class ZeroMqLinks final : public Links {
 public:
  explicit ZeroMqLinks(const LinkOptions& options)
      : options_(options),
        context_(MakeContext(options.world_size)),
        receiver_(context_, zmq::socket_type::pull),
        senders_(static_cast<size_t>(options.world_size)) {
    if (options_.secret) {
      Require(zmq_has("curve") == 1, ErrorKind::kTransport,
              "this ZeroMQ was built without CURVE; a secret cannot be used with it");
      keys_ = std::make_unique<CurveKeys>(*options_.secret, options_.nonce);
      key_check_ = std::make_unique<KeyCheck>(context_, *keys_, options_.world_size);
      receiver_.set(zmq::sockopt::curve_server, true);
      receiver_.set(zmq::sockopt::curve_secretkey,
                    Key(keys_->ForListening(options_.rank).secret_key));
    }
    SetCommonOptions(receiver_, BindsV6());
    receiver_.set(zmq::sockopt::rcvhwm, options_.queue_frames);
    receiver_.set(zmq::sockopt::maxmsgsize, options_.max_message_bytes);
    Bind();
  }

  ~ZeroMqLinks() override {
    receiver_.close();
    for (auto& channels : senders_) channels.clear();
  }

  std::string endpoint() const override { return receiver_.get(zmq::sockopt::last_endpoint); }

  void Connect(int rank, const std::string& endpoint) override {
    auto& channels = senders_.at(static_cast<size_t>(rank));
    Check(channels.empty(), "rank ", rank, " is connected already");
    std::vector<std::unique_ptr<Monitor>> monitors;
    try {
      for (size_t channel = 0; channel < kChannelCount; ++channel) {
        zmq::socket_t& sender = channels.emplace_back(context_, zmq::socket_type::push);
        SetCommonOptions(sender, endpoint.starts_with("tcp://["));
        // The caller's window bounds what is queued. ZeroMQ's own mark counts too much at times:
        // what has left is taken off now and then only.
        sender.set(zmq::sockopt::sndhwm, 0);
        sender.set(zmq::sockopt::linger, static_cast<int>(options_.linger.count()));
        if (keys_) {
          const CurveKeyPair own = keys_->ForConnecting(options_.rank);
          sender.set(zmq::sockopt::curve_serverkey, Key(keys_->ForListening(rank).public_key));
          sender.set(zmq::sockopt::curve_publickey, Key(own.public_key));
          sender.set(zmq::sockopt::curve_secretkey, Key(own.secret_key));
        }
        monitors.push_back(std::make_unique<Monitor>(
            context_, sender, rank, StrCat("inproc://monitor-", rank, "-", channel)));
        sender.connect(endpoint);
      }
    } catch (const zmq::error_t& error) {
      throw Error(ErrorKind::kTransport,
                  StrCat("cannot connect to rank ", rank, " at ", endpoint, ": ", error.what()),
                  {{"rank", StrCat(rank)}, {"address", endpoint}});
    }
    const std::lock_guard lock(mutex_);
    for (auto& monitor : monitors) new_monitors_.push_back(std::move(monitor));
    wake_.Raise();
  }

  bool Send(int to, Channel channel, const std::array<std::byte, kWireHeaderBytes>& header,
            Payload payload) override {
    try {
      zmq::socket_t& sender = senders_.at(static_cast<size_t>(to)).at(static_cast<size_t>(channel));
      zmq::message_t head(header.data(), header.size());
      if (payload.size == 0) return sender.send(head, zmq::send_flags::dontwait).has_value();
      if (!sender.send(head, zmq::send_flags::dontwait | zmq::send_flags::sndmore)) return false;
      // ZeroMQ takes all parts of a message or none.
      zmq::message_t body = Lend(std::move(payload));
      return sender.send(body, zmq::send_flags::dontwait).has_value();
    } catch (const zmq::error_t& error) {
      throw Error(ErrorKind::kTransport, StrCat("sending to rank ", to, ": ", error.what()),
                  {{"rank", StrCat(to)}});
    }
  }

  void Poll(TimePoint until, LinkSink& sink) override {
    TakeNewMonitors();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        std::max(until - std::chrono::steady_clock::now(), TimePoint::duration::zero()));
    try {
      zmq::poll(items_, left);
    } catch (const zmq::error_t& error) {
      if (error.num() == EINTR) return;  // a signal's handler ran on this thread; asked again
      throw;
    }
    if (items_[0].revents != 0) wake_.Clear();
    if (key_check_ && items_[2].revents != 0) key_check_->Answer();
    // Messages before events: what a rank said before its connection closed counts first.
    if (items_[1].revents != 0) ReceiveSome(sink);
    const size_t first = items_.size() - monitors_.size();
    for (size_t i = 0; i < monitors_.size(); ++i) {
      if (items_[first + i].revents != 0) monitors_[i]->Report(sink);
    }
  }

  void StopReceiving() override {
    receiver_.close();
    // Its connections wait for this socket to let go of them, which it only does while it is
    // polled.
    key_check_.reset();
  }

  void Wake() override { wake_.Raise(); }

 private:
  bool BindsV6() const { return options_.bind_address.find(':') != std::string::npos; }

  void SetCommonOptions(zmq::socket_t& socket, bool is_v6) {
    socket.set(zmq::sockopt::ipv6, is_v6);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::handshake_ivl, static_cast<int>(options_.handshake_timeout.count()));
    socket.set(zmq::sockopt::reconnect_ivl, 50);
  }

  void Bind() {
    const std::string host =
        BindsV6() ? StrCat("[", options_.bind_address, "]") : options_.bind_address;
    const std::string port = options_.bind_port == 0 ? "*" : StrCat(options_.bind_port);
    const std::string wanted = StrCat("tcp://", host, ":", port);
    try {
      receiver_.bind(wanted);
    } catch (const zmq::error_t& error) {
      throw Error(ErrorKind::kTransport, StrCat("cannot listen on ", wanted, ": ", error.what()),
                  {{"address", wanted}});
    }
  }

  void TakeNewMonitors() {
    {
      const std::lock_guard lock(mutex_);
      if (new_monitors_.empty() && !items_.empty()) return;
      for (auto& monitor : new_monitors_) monitors_.push_back(std::move(monitor));
      new_monitors_.clear();
    }
    items_ = {{nullptr, wake_.fd(), ZMQ_POLLIN, 0}, {receiver_.handle(), 0, ZMQ_POLLIN, 0}};
    if (key_check_) items_.push_back({key_check_->socket().handle(), 0, ZMQ_POLLIN, 0});
    for (const auto& monitor : monitors_) {
      items_.push_back({monitor->socket().handle(), 0, ZMQ_POLLIN, 0});
    }
  }

  void ReceiveSome(LinkSink& sink) {
    for (int i = 0; i < kMessagesPerPoll; ++i) {
      zmq::message_t head;
      if (!receiver_.recv(head, zmq::recv_flags::dontwait)) return;
      zmq::message_t body;
      bool more = head.more();
      if (more) {
        if (!receiver_.recv(body, zmq::recv_flags::dontwait)) return;
        more = body.more();
      }
      const bool is_frame = !more;
      while (more) {  // no frame has a third part: all of it is thrown away
        zmq::message_t rest;
        more = receiver_.recv(rest, zmq::recv_flags::dontwait).has_value() && rest.more();
      }
      if (!is_frame) continue;
      LinkFrame frame;
      frame.header = {static_cast<const std::byte*>(head.data()), head.size()};
      frame.proven_rank = ProvenRank(head);
      if (body.size() > 0) frame.payload = Own(std::move(body));
      sink.OnFrame(std::move(frame));
    }
  }

  const LinkOptions options_;
  WakeSignal wake_;
  zmq::context_t context_;  // ends after every socket below it, and waits for what lingers
  std::unique_ptr<CurveKeys> keys_;
  std::unique_ptr<KeyCheck> key_check_;
  zmq::socket_t receiver_;
  std::vector<std::vector<zmq::socket_t>>
      senders_;  // by rank and channel; each under its caller's lock
  std::mutex mutex_;
  std::vector<std::unique_ptr<Monitor>> new_monitors_;  // under mutex_
  std::vector<std::unique_ptr<Monitor>> monitors_;      // the polling thread's, as is items_
  std::vector<zmq::pollitem_t> items_;
};

}  // namespace

std::unique_ptr<Links> MakeZeroMqLinks(const LinkOptions& options) {
  try {
    return std::make_unique<ZeroMqLinks>(options);
  } catch (const zmq::error_t& error) {
    throw Error(ErrorKind::kTransport, StrCat("ZeroMQ: ", error.what()));
  }
}

}  // namespace xcomposer
