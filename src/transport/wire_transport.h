#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "transport/inbox.h"
#include "transport/link_messages.h"
#include "transport/links.h"
#include "transport/peer_watch.h"
#include "transport/transport.h"
#include "transport/transport_options.h"
#include "transport/window.h"

namespace xcomposer {

struct WireOptions {
  int rank = 0;
  int world_size = 1;
  RunNonce nonce{};
  TransportOptions transport;
};

/// The transport between processes, over Links. A thread of its own receives, beats and judges: it
/// does nothing that could take long, so that a rank which computes is still heard of.
///
/// A lost connection is not mended: frames may be gone, so the run ends. Whoever finds a reason
/// tells all others, and each passes the first reason that it hears on once, so that a rank that
/// only some others reach learns it too.
class WireTransport final : public Transport, private LinkSink {
 public:
  WireTransport(std::unique_ptr<Links> links, const WireOptions& options);
  ~WireTransport() override;

  /// Connects to a rank that published `endpoint`.
  void AddPeer(int rank, const std::string& endpoint);

  /// Tells all others, once they are added, that this rank has connected to every one.
  void SayHello();

  /// Returns when every other rank has said hello. At `until` ends the run with kRank naming those
  /// that are missing. Throws what ended the transport.
  void WaitUntilConnected(TimePoint until);

  /// Those that have not said hello yet: they may know neither this rank nor why it ends.
  std::vector<int> WithoutHello() const { return watch_.WithoutHello(); }

  int rank() const override { return options_.rank; }
  int world_size() const override { return options_.world_size; }
  void Send(int to, const FrameHeader& header, Payload payload) override;
  std::optional<Frame> Receive(int from, Channel channel, TimePoint until) override;
  void Abort(const Error& reason) override;
  std::optional<Error> failure() const override { return inbox_.failure(); }

 private:
  // What this rank has for one channel of one peer.
  struct Lane {
    std::mutex sending;  // orders sequence numbers and messages alike; guards next_sequence
    uint64_t next_sequence = 0;
    SendWindow window;
    ReceiveLedger ledger;
    uint64_t expected_sequence = 0;  // the service thread's
  };
  using Lanes = std::array<Lane, kChannelCount>;

  void OnFrame(LinkFrame frame) override;
  void OnEvent(const LinkEvent& event) override;

  void Serve();
  void FallSilent();
  void HandleLinkMessage(const WireHeader& header, const Payload& payload);
  void CheckHello(int from, const Hello& hello) const;
  void Accept(const WireHeader& header, Payload payload);
  void SendLinkMessage(int to, LinkMessage message, Payload payload);
  void Tell(LinkMessage message, const Payload& payload);
  Lane& lane(int rank, Channel channel);

  const WireOptions options_;
  const FrameLimits limits_;
  std::unique_ptr<Links> links_;
  Inbox inbox_;
  std::deque<Lanes> lanes_;  // by rank
  PeerWatch watch_;
  std::atomic<uint32_t> stage_{0};  // of the last frame that was sent
  std::atomic<uint64_t> step_{0};
  std::atomic<bool> stopping_{false};
  std::thread service_;
};

}  // namespace xcomposer
