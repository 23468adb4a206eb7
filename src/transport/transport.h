#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "xcomposer/error.h"

namespace xcomposer {

/// What a frame carries. Frames of different channels between the same two ranks overtake each
/// other; frames of one channel arrive in the order in which they were sent.
enum class Channel : uint16_t {
  kControl = 1,  ///< small descriptions: batches to run, answers, farewell
  kHidden = 2,   ///< activations from one stage to the next
  kLogits = 3,   ///< scores, from the last stage to the first rank
  kTaps = 4,     ///< intermediate tensors that a request asked for
  kSetup = 5,    ///< what all ranks agree on before the first step; see run_identity.h
};

/// The fixed part of every frame, in the order in which it travels (little-endian). Receivers check
/// every field against their own limits before they look at the payload.
struct FrameHeader {
  Channel channel = Channel::kControl;
  uint16_t kind = 0;          ///< meaning is the channel's own
  uint32_t stage = 0;         ///< of the sender
  uint64_t step = 0;          ///< of the pipeline, from 1; 0 outside of steps
  int64_t rows = 0;           ///< rows of the payload; 0 where it has none
  int64_t payload_bytes = 0;  ///< exact
};

/// Bytes with their owner: whoever holds the payload keeps the memory alive. The holder of a
/// received payload may write to it: nobody else does.
struct Payload {
  std::shared_ptr<void> owner;
  std::byte* data = nullptr;
  int64_t size = 0;
  bool on_device = false;  ///< in a GPU's memory: no transport carries it, see workers/row_link.h

  std::span<std::byte> bytes() const { return {data, static_cast<size_t>(size)}; }

  /// `size` bytes of its own, aligned to 64; not initialised.
  static Payload Allocate(int64_t size);
  /// A copy of the text, for small messages.
  static Payload Of(const std::string& text);
};

struct Frame {
  FrameHeader header;
  Payload payload;
};

using TimePoint = std::chrono::steady_clock::time_point;

/// Moves frames between the ranks of one run. Knows ranks, bytes and deadlines; not models.
///
/// Thread-safe. After an error every later call throws that same error: the transport is dead and a
/// new one must be made. Destruction says farewell to the peers, who see it as kRank at once.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  /// Hands the frame over to be sent; returns before it has arrived. The payload is not copied and
  /// must not be written to afterwards. Waits while `to` has too much of that channel that nobody
  /// took, but no longer than the run's send timeout (kTransport). A rank may send to itself.
  /// Throws the error that ended the transport.
  virtual void Send(int to, const FrameHeader& header, Payload payload) = 0;

  /// The next frame of `from` on `channel`, or nothing at `until`. Its payload is aligned to at
  /// least 8 bytes. Throws the error that ended the transport, kRank naming the rank where one was
  /// lost; frames that nobody took until then are gone.
  virtual std::optional<Frame> Receive(int from, Channel channel, TimePoint until) = 0;

  /// Ends the transport with `reason` on this and on every other rank; wakes every wait. The first
  /// reason counts.
  virtual void Abort(const Error& reason) = 0;

  /// Why the transport is dead; nothing while it lives. A lost rank is found here within the
  /// run's rank timeout although nobody waits for it.
  virtual std::optional<Error> failure() const = 0;
};

}  // namespace xcomposer
