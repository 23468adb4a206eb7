#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace xcomposer {

/// Reads numbers, little-endian unless told otherwise, from untrusted bytes; reading past the end
/// is Error(kImage).
class PictureReader {
 public:
  explicit PictureReader(std::span<const std::byte> bytes, std::endian order = std::endian::little)
      : bytes_(bytes), order_(order) {}

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
  /// Eight bytes; negative from 2^63 on, which no size or position of a file reaches.
  int64_t I64() { return Number(8); }

 private:
  int64_t Number(int64_t size) {
    const auto bytes = Take(size);
    uint64_t value = 0;
    for (int64_t i = 0; i < size; ++i) {
      const int64_t at = order_ == std::endian::little ? size - 1 - i : i;
      value = value << 8 | std::to_integer<uint64_t>(bytes[at]);
    }
    return static_cast<int64_t>(value);
  }

  std::span<const std::byte> bytes_;
  std::endian order_;
  int64_t position_ = 0;
};

}  // namespace xcomposer
