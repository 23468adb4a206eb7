#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "transport/transport.h"

namespace xcomposer {

/// Tells the frames of one run from those of any other; drawn at random by rank 0. No secret.
using RunNonce = std::array<std::byte, 16>;

/// The transport's own channel: hello, heartbeats, credit, the reason of an end.
constexpr Channel kLinkChannel = Channel{0};
constexpr size_t kChannelCount = 6;

/// The header as it travels, 72 bytes, little-endian:
///
///     0  magic "XCMP"    4  version u16    6  channel u16    8  run nonce (16)
///    24  from u32       28  stage u32     32  kind u16      34  zeros (6)
///    40  step u64       48  rows i64      56  payload_bytes i64     64  sequence u64
///
/// Magic, version, nonce and from keep their places in every future version.
constexpr size_t kWireHeaderBytes = 72;
constexpr uint16_t kWireVersion = 1;

struct WireHeader {
  FrameHeader frame;
  int from = 0;
  uint64_t sequence = 0;  ///< of this sender to this receiver on this channel, from 0
};

/// What a receiver accepts.
struct FrameLimits {
  RunNonce nonce{};
  int world_size = 1;
  uint32_t max_stages = 65536;
  int64_t max_rows = 0;
  int64_t max_payload_bytes = 0;
  int64_t max_link_payload_bytes = 65536;  ///< on kLinkChannel
};

std::array<std::byte, kWireHeaderBytes> EncodeHeader(const WireHeader& header,
                                                     const RunNonce& nonce);

/// Nothing where the bytes are no header of this run: strangers cannot end it. Throws kTransport,
/// naming the rank that they claim to come from and the field, where they carry the run's nonce and
/// yet exceed a limit or come from another version of the protocol.
std::optional<WireHeader> DecodeHeader(std::span<const std::byte> bytes, const FrameLimits& limits);

}  // namespace xcomposer
