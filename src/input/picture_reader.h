#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace xcomposer {

/// Reads little-endian numbers from untrusted bytes; reading past the end is Error(kImage).
class PictureReader {
 public:
  explicit PictureReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  int64_t position() const { return position_; }
  int64_t remaining() const { return static_cast<int64_t>(bytes_.size()) - position_; }

  /// Moves to `position`, which may be at most the end.
  void Seek(int64_t position) {
    Require(position >= 0 && position <= static_cast<int64_t>(bytes_.size()), ErrorKind::kImage,
            "the picture is truncated: it refers to byte ", position, " of ", bytes_.size());
    position_ = position;
  }
  void Skip(int64_t count) { Seek(position_ + count); }

  std::span<const std::byte> Take(int64_t count) {
    Require(count >= 0 && count <= remaining(), ErrorKind::kImage,
            "the picture is truncated: ", count, " bytes wanted at byte ", position_, ", ",
            remaining(), " left");
    const auto taken = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += count;
    return taken;
  }

  int64_t U8() { return Number(1); }
  int64_t U16() { return Number(2); }
  int64_t U24() { return Number(3); }
  int64_t U32() { return Number(4); }

 private:
  int64_t Number(int64_t size) {
    const auto bytes = Take(size);
    int64_t value = 0;
    for (int64_t i = size; i-- > 0;) value = value << 8 | std::to_integer<int64_t>(bytes[i]);
    return value;
  }

  std::span<const std::byte> bytes_;
  int64_t position_ = 0;
};

}  // namespace xcomposer
