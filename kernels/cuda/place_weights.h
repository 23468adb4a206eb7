#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

/// How a file stores its numbers.
enum class FileFormat { kFloat16, kBfloat16, kFloat32 };

/// Some neighbouring numbers of a tensor, row-major as its file has them, on their way to rows that
/// may lie apart.
struct PlaceWeightsParams {
  const void* staged = nullptr;  ///< (count) as the file stores them; on 16 bytes
  FileFormat from = FileFormat::kBfloat16;
  void* target = nullptr;  ///< the tensor's first number, rows row_stride numbers apart
  Format to = Format::kFloat16;
  int64_t first = 0;       ///< which number of the tensor staged[0] is
  int64_t count = 0;       ///< staged numbers
  int64_t columns = 0;     ///< numbers of a row
  int64_t row_stride = 0;  ///< numbers between the starts of rows, at least columns
  /// Two counters, to which is added how many numbers were finite and became infinite, and how many
  /// were not zero and became zero.
  uint64_t* losses = nullptr;
};

/// Writes the numbers to their places, rounded to the nearest, ties to even. Numbers that are
/// stored as they were are the same bits.
cudaError_t PlaceWeights(const PlaceWeightsParams& params, const Context& context);

}  // namespace xcomposer::cuda
