#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace xcomposer {

/// Appends little-endian numbers and length-prefixed texts: what WireReader reads.
class WireWriter {
 public:
  template <std::unsigned_integral T>
  void Put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  void Put(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  /// At most `limit` bytes of the text, cut where it is longer.
  void PutText(const std::string& text, size_t limit) {
    const size_t size = std::min(text.size(), limit);
    Put(static_cast<uint32_t>(size));
    Put(std::as_bytes(std::span(text.data(), size)));
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// Reads bytes from outside. After the first thing that is not there, or that is longer than its
/// limit, everything reads as zero or empty and good() is false.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  T Get() {
    const std::span<const std::byte> taken = Bytes(sizeof(T));
    uint64_t value = 0;
    for (size_t i = 0; i < taken.size(); ++i)
      value |= std::to_integer<uint64_t>(taken[i]) << (8 * i);
    return static_cast<T>(value);
  }
  /// `count` bytes, or none.
  std::span<const std::byte> Bytes(size_t count) {
    if (!good_ || count > bytes_.size()) {
      good_ = false;
      return {};
    }
    const std::span<const std::byte> taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  std::string Text(size_t limit) {
    const size_t size = Get<uint32_t>();
    if (size > limit) good_ = false;
    const std::span<const std::byte> taken = Bytes(good_ ? size : 0);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  bool good() const { return good_; }
  /// Whether everything was there and nothing is left over.
  bool finished() const { return good_ && bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace xcomposer
