#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "checkpoint/fault.h"

namespace xcomposer {

/// A bounds-checked little-endian reader over outside bytes. Every read behind the end throws
/// kCheckpoint with the place's file and part and the offset reached.
class ByteReader {
 public:
  /// `place.offset` counts from the start of `bytes`; the views in `place` must outlive the reader.
  ByteReader(std::span<const std::byte> bytes, const Place& place) : bytes_(bytes), place_(place) {}

  int64_t position() const { return position_; }
  int64_t remaining() const { return static_cast<int64_t>(bytes_.size()) - position_; }

  /// Moves to `position`, which must lie inside the bytes or at their end.
  void Seek(int64_t position) {
    if (position < 0 || position > static_cast<int64_t>(bytes_.size())) {
      Refuse(place_, "an offset of ", position, " points outside the ", bytes_.size(), " bytes");
    }
    position_ = position;
  }

  std::span<const std::byte> Take(int64_t count) {
    if (count < 0 || count > remaining()) {
      Refuse(Here(), "the file ends where ", count, " more bytes were expected (", remaining(),
             " are left); it is truncated or damaged");
    }
    const auto taken = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += count;
    return taken;
  }

  std::string_view TakeText(int64_t count) {
    const std::span<const std::byte> taken = Take(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  uint8_t U8() { return static_cast<uint8_t>(Unsigned(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Unsigned(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Unsigned(4)); }
  uint64_t U64() { return Unsigned(8); }

  /// The place with the offset of the next byte.
  Place Here() const {
    Place here = place_;
    here.offset = position_;
    return here;
  }

 private:
  uint64_t Unsigned(int64_t count) {
    uint64_t value = 0;
    int shift = 0;
    for (const std::byte byte : Take(count)) {
      value |= static_cast<uint64_t>(byte) << shift;
      shift += 8;
    }
    return value;
  }

  std::span<const std::byte> bytes_;
  Place place_;
  int64_t position_ = 0;
};

}  // namespace xcomposer
