#pragma once

#include <cstdint>

#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

/// A linear layer's weight in row-major order. Launchers take this and not a bare pointer, since a
/// quantised weight is more than one: its format joins the enumeration below, its scales join this
/// structure, and no caller changes. A launcher answers cudaErrorNotSupported for a format that it
/// has no kernel for.
struct WeightMatrix {
  enum class Storage { kFloat16, kBfloat16 };

  const void* data = nullptr;
  Storage storage = Storage::kFloat16;
  int64_t rows = 0;        ///< N, outputs
  int64_t columns = 0;     ///< K, inputs; a multiple of 8
  int64_t row_stride = 0;  ///< numbers between rows, a multiple of 8
};

/// Whether kernels whose activations are stored in `format` can read this weight without
/// conversion.
inline bool Matches(const WeightMatrix& weight, Format format) {
  return (weight.storage == WeightMatrix::Storage::kFloat16) == (format == Format::kFloat16);
}

}  // namespace xcomposer::cuda
