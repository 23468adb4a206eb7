#pragma once

#include <cstdint>
#include <string>

namespace xcomposer::testing_support {

/// The lowest `count` bytes of `value`, least significant first.
inline std::string LittleEndian(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

}  // namespace xcomposer::testing_support
