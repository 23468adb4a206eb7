#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "transport/frame_codec.h"
#include "transport/secret.h"
#include "transport/transport.h"

namespace xcomposer {

/// What happened to the connection that carries one channel to `rank`.
struct LinkEvent {
  enum class Kind {
    kReached,      ///< it is established
    kUnreachable,  ///< nobody takes it: an attempt to make it failed, others follow
    kClosed,       ///< it was established and the other side closed or reset it
    kRefused,      ///< the other side was reached and does not accept this rank's key
  };
  Kind kind = Kind::kClosed;
  int rank = 0;
};

/// A message as it came in: nothing about it is checked yet but its size.
struct LinkFrame {
  std::span<const std::byte> header;
  Payload payload;
  std::optional<int> proven_rank;  ///< whose key the sender holds; nothing without a secret
};

class LinkSink {
 public:
  virtual ~LinkSink() = default;
  virtual void OnFrame(LinkFrame frame) = 0;
  virtual void OnEvent(const LinkEvent& event) = 0;
};

/// Connections from this rank to all others, one per channel, and the socket on which those of the
/// others arrive. Knows bytes; neither heartbeats nor reasons.
class Links {
 public:
  virtual ~Links() = default;

  /// Where others reach this rank: "tcp://address:port".
  virtual std::string endpoint() const = 0;

  /// Begins to connect to `rank`; what is sent meanwhile waits. Once per rank.
  virtual void Connect(int rank, const std::string& endpoint) = 0;

  /// Queues one message; never blocks, and keeps what the connection does not take: the caller
  /// bounds it. False where there is no connection any more. Calls for one rank and channel must
  /// not overlap; others may. Only after Connect.
  virtual bool Send(int to, Channel channel, const std::array<std::byte, kWireHeaderBytes>& header,
                    Payload payload) = 0;

  /// Hands over what has come in, waiting for it until `until`. One thread only.
  virtual void Poll(TimePoint until, LinkSink& sink) = 0;

  /// Closes what others connect to, so that they see it. The polling thread's last call.
  virtual void StopReceiving() = 0;

  /// Ends the Poll that is running, or else the next one. Any thread.
  virtual void Wake() = 0;
};

struct LinkOptions {
  int rank = 0;
  int world_size = 1;
  std::string bind_address;       ///< numeric
  uint16_t bind_port = 0;         ///< 0: any that is free
  int64_t max_message_bytes = 0;  ///< a peer that sends more is disconnected
  int queue_frames = 0;           ///< per connection, received but not yet polled
  std::chrono::milliseconds handshake_timeout{10'000};
  std::chrono::milliseconds linger{
      500};  ///< how long destruction tries to get rid of what is queued
  RunNonce nonce{};
  std::optional<Secret> secret;  ///< keys are derived from it and the nonce; none: no encryption
};

/// Links over ZeroMQ and TCP. Throws kTransport where the address cannot be bound, or where this
/// build has no ZeroMQ.
std::unique_ptr<Links> MakeZeroMqLinks(const LinkOptions& options);

}  // namespace xcomposer
