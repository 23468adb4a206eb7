#include "transport/link_messages.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "transport/frame_codec.h"
#include "transport/wire_bytes.h"

namespace xcomposer {
namespace {

constexpr size_t kMaxMessage = 8192;
constexpr uint32_t kMaxPlaces = 16;
constexpr size_t kMaxKey = 64;
constexpr size_t kMaxValue = 512;

Payload ToPayload(const WireWriter& out) {
  Payload payload = Payload::Allocate(static_cast<int64_t>(out.bytes().size()));
  std::memcpy(payload.data, out.bytes().data(), out.bytes().size());
  return payload;
}

void RequireWhole(const WireReader& in, const char* what, size_t size) {
  Require(in.finished(), ErrorKind::kTransport, "a rank sent ", size, " bytes that are no ", what);
}

}  // namespace

Payload EncodeHello(const Hello& hello) {
  WireWriter out;
  out.Put(hello.world_size);
  out.Put(hello.window_bytes);
  out.Put(hello.window_frames);
  return ToPayload(out);
}

Hello DecodeHello(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  Hello hello;
  hello.world_size = in.Get<uint32_t>();
  hello.window_bytes = in.Get<uint64_t>();
  hello.window_frames = in.Get<uint64_t>();
  RequireWhole(in, "hello", bytes.size());
  return hello;
}

Payload EncodeCredit(const Credit& credit) {
  WireWriter out;
  out.Put(static_cast<uint16_t>(credit.channel));
  out.Put(credit.frames);
  out.Put(credit.bytes);
  return ToPayload(out);
}

Credit DecodeCredit(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  Credit credit;
  const auto channel = in.Get<uint16_t>();
  credit.channel = Channel{channel};
  credit.frames = in.Get<uint64_t>();
  credit.bytes = in.Get<uint64_t>();
  RequireWhole(in, "credit", bytes.size());
  Require(channel >= 1 && channel < kChannelCount, ErrorKind::kTransport,
          "a rank sent credit for channel ", channel, "; expected 1 to ", kChannelCount - 1);
  return credit;
}

Payload EncodeReason(const Error& reason) {
  WireWriter out;
  out.Put(static_cast<uint16_t>(reason.kind()));
  out.PutText(reason.what(), kMaxMessage);
  const auto places = static_cast<uint32_t>(std::min<size_t>(reason.where().size(), kMaxPlaces));
  out.Put(places);
  auto place = reason.where().begin();
  for (uint32_t i = 0; i < places; ++i, ++place) {
    out.PutText(place->first, kMaxKey);
    out.PutText(place->second, kMaxValue);
  }
  return ToPayload(out);
}

Error DecodeReason(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  const auto kind = in.Get<uint16_t>();
  const std::string message = in.Text(kMaxMessage);
  const auto places = in.Get<uint32_t>();
  Error::Where where;
  for (uint32_t i = 0; in.good() && i < places && i < kMaxPlaces; ++i) {
    std::string key = in.Text(kMaxKey);
    std::string value = in.Text(kMaxValue);
    if (in.good()) where.emplace(std::move(key), std::move(value));
  }
  RequireWhole(in, "reason of an end", bytes.size());
  Require(kind <= static_cast<uint16_t>(ErrorKind::kInternal), ErrorKind::kTransport,
          "a rank ended the run with error kind ", kind, ", which does not exist");
  return Error(static_cast<ErrorKind>(kind), message, std::move(where));
}

}  // namespace xcomposer
