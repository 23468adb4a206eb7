#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/inline.h"

namespace xcomposer::cpu {

/// How a stored weight is written in memory.
enum class Format { kFloat32, kBfloat16, kFloat16 };

/// Bytes of one number.
constexpr XCOMPOSER_INLINE int64_t SizeOf(Format format) {
  return format == Format::kFloat32 ? 4 : 2;
}

/// A vector of weights as stored.
struct StoredVector {
  const void* data = nullptr;
  Format format = Format::kFloat32;
  int64_t size = 0;
};

/// A row-major matrix of weights as stored; `row_stride` counts numbers. No alignment is asked for.
struct StoredMatrix {
  const void* data = nullptr;
  Format format = Format::kFloat32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;
};

}  // namespace xcomposer::cpu
