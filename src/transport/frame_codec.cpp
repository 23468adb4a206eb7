#include "transport/frame_codec.h"

#include <algorithm>

#include "base/check.h"
#include "transport/wire_bytes.h"

namespace xcomposer {
namespace {

constexpr uint32_t kMagic = 0x504D4358;  // "XCMP"

template <typename Found, typename Expected>
[[noreturn]] void Refuse(uint32_t from, const char* field, Found found, Expected expected) {
  throw Error(
      ErrorKind::kTransport,
      StrCat("rank ", from, " sent a frame whose ", field, " is ", found, "; expected ", expected),
      {{"rank", StrCat(from)}, {"field", field}});
}

void CheckCount(uint32_t from, const char* field, int64_t found, int64_t limit) {
  if (found < 0 || found > limit) Refuse(from, field, found, StrCat("0 to ", limit));
}

}  // namespace

std::array<std::byte, kWireHeaderBytes> EncodeHeader(const WireHeader& header,
                                                     const RunNonce& nonce) {
  WireWriter out;
  out.Put(kMagic);
  out.Put(kWireVersion);
  out.Put(static_cast<uint16_t>(header.frame.channel));
  out.Put(nonce);
  out.Put(static_cast<uint32_t>(header.from));
  out.Put(header.frame.stage);
  out.Put(header.frame.kind);
  out.Put(uint16_t{0});
  out.Put(uint32_t{0});
  out.Put(header.frame.step);
  out.Put(static_cast<uint64_t>(header.frame.rows));
  out.Put(static_cast<uint64_t>(header.frame.payload_bytes));
  out.Put(header.sequence);
  std::array<std::byte, kWireHeaderBytes> bytes{};
  Check(out.bytes().size() == bytes.size(), "a frame header of ", out.bytes().size(), " bytes");
  std::copy(out.bytes().begin(), out.bytes().end(), bytes.begin());
  return bytes;
}

std::optional<WireHeader> DecodeHeader(std::span<const std::byte> bytes,
                                       const FrameLimits& limits) {
  WireReader in(bytes);
  const auto magic = in.Get<uint32_t>();
  const auto version = in.Get<uint16_t>();
  const auto channel = in.Get<uint16_t>();
  const std::span<const std::byte> nonce = in.Bytes(limits.nonce.size());
  const auto from = in.Get<uint32_t>();
  if (!in.good() || magic != kMagic || !std::ranges::equal(nonce, limits.nonce))
    return std::nullopt;
  if (from >= static_cast<uint32_t>(limits.world_size)) {
    Refuse(from, "sender", from, StrCat("a rank below ", limits.world_size));
  }
  if (version != kWireVersion) Refuse(from, "protocol version", version, kWireVersion);
  if (bytes.size() != kWireHeaderBytes) Refuse(from, "header size", bytes.size(), kWireHeaderBytes);
  if (channel >= kChannelCount)
    Refuse(from, "channel", channel, StrCat("0 to ", kChannelCount - 1));

  WireHeader header;
  header.from = static_cast<int>(from);
  header.frame.channel = Channel{channel};
  header.frame.stage = in.Get<uint32_t>();
  header.frame.kind = in.Get<uint16_t>();
  const auto padding = in.Get<uint16_t>() | in.Get<uint32_t>();
  header.frame.step = in.Get<uint64_t>();
  header.frame.rows = static_cast<int64_t>(in.Get<uint64_t>());
  header.frame.payload_bytes = static_cast<int64_t>(in.Get<uint64_t>());
  header.sequence = in.Get<uint64_t>();

  if (padding != 0) Refuse(from, "padding", padding, 0);
  CheckCount(from, "stage", header.frame.stage, int64_t{limits.max_stages} - 1);
  CheckCount(from, "row count", header.frame.rows, limits.max_rows);
  const bool is_link = header.frame.channel == kLinkChannel;
  CheckCount(from, "payload size", header.frame.payload_bytes,
             is_link ? limits.max_link_payload_bytes : limits.max_payload_bytes);
  return header;
}

}  // namespace xcomposer
