#pragma once

#include <cstdint>
#include <span>

#include "transport/transport.h"
#include "xcomposer/error.h"

namespace xcomposer {

/// The frames of kLinkChannel, by FrameHeader::kind. Bytes from outside: each Decode throws
/// kTransport where they are not exactly one message.
enum class LinkMessage : uint16_t {
  kHello = 1,      ///< the sender has connected; Hello
  kHeartbeat = 2,  ///< nothing but the header: the stage and step that the sender is at
  kCredit = 3,     ///< the sender took frames; Credit
  kAbort = 4,      ///< the run is over; the reason
  kFarewell = 5,   ///< the sender leaves; nothing
};

/// What two ranks must have been started with alike to understand each other at all.
struct Hello {
  uint32_t world_size = 0;
  uint64_t window_bytes = 0;
  uint64_t window_frames = 0;

  bool operator==(const Hello&) const = default;
};

/// What the receiver has taken of one channel since the run began; a later message replaces an
/// earlier.
struct Credit {
  Channel channel = Channel::kControl;
  uint64_t frames = 0;
  uint64_t bytes = 0;

  bool operator==(const Credit&) const = default;
};

Payload EncodeHello(const Hello& hello);
Hello DecodeHello(std::span<const std::byte> bytes);

Payload EncodeCredit(const Credit& credit);
Credit DecodeCredit(std::span<const std::byte> bytes);

/// Message and places are cut where they are longer than 8 KiB and 16 places of 64 + 512 bytes.
Payload EncodeReason(const Error& reason);
Error DecodeReason(std::span<const std::byte> bytes);

}  // namespace xcomposer
