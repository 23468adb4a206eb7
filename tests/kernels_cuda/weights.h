#pragma once

#include "kernels/cuda/weight_matrix.h"
#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {

template <typename T>
WeightMatrix Matrix(const Array<T>& data, int64_t rows, int64_t columns, int64_t stride) {
  using Storage = WeightMatrix::Storage;
  return {data.data(), std::is_same_v<T, Half> ? Storage::kFloat16 : Storage::kBfloat16, rows,
          columns, stride};
}

/// A matrix with some NaN between its rows, which no kernel may use.
template <typename T>
struct Weights {
  int64_t rows, columns, stride;
  std::vector<T> values;

  Weights(int64_t rows, int64_t columns, Random& random)
      : rows(rows), columns(columns), stride(columns + 8) {
    // Scaled so that results are of the inputs' size.
    values = random.Normal<T>(static_cast<size_t>(rows * stride),
                              1.0f / std::sqrt(static_cast<float>(columns)));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = columns; c < stride; ++c) {
        values[static_cast<size_t>(r * stride + c)].bits = 0xFFFF;
      }
    }
  }

  /// Of a row with a vector, summed one after the other in the vector's precision.
  template <typename Number>
  Number Dot(int64_t row, const std::vector<Number>& x) const {
    Number sum = 0;
    for (int64_t c = 0; c < columns; ++c) {
      sum += static_cast<Number>(Widen(values[static_cast<size_t>(row * stride + c)])) *
             x[static_cast<size_t>(c)];
    }
    return sum;
  }
};

}  // namespace xcomposer::cuda
