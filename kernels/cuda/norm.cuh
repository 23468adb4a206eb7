#pragma once

#include "kernels/cuda/norm.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// One block per row. The row is read again from cache for each pass over it: holding it in
// registers would fix the number of columns at compile time.

/// Sum of value(x[c]) over the row, the same in all threads.
template <typename Value>
XCOMPOSER_DEVICE float RowSum(const float* x, int columns, const Value& value,
                              const Shared<float>& partial) {
  float sum = 0.0f;
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    LoadEight(x + c, eight);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) sum += value(eight[i]);
  }
  return BlockSum(sum, partial);
}

template <typename T>
__global__ void __launch_bounds__(256) RmsNormKernel(NormParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> partial = arena.Take<float>(8);
  const int columns = static_cast<int>(p.columns);
  const float* x = p.x + BlockX() * p.columns;
  T* out = static_cast<T*>(p.out) + BlockX() * p.columns;
  const float squares = RowSum(
      x, columns, [](float f) { return f * f; }, partial);
  const float factor = ReciprocalRoot(squares / static_cast<float>(columns) + p.eps);
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    float weight[8];
    LoadEight(x + c, eight);
    LoadEight(static_cast<const T*>(p.weight) + c, weight);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) eight[i] = eight[i] * factor * weight[i];
    StoreEight(out + c, eight);
  }
}

template <typename T, typename Out>
__global__ void __launch_bounds__(256) LayerNormKernel(NormParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> means = arena.Take<float>(8);
  const Shared<float> variances = arena.Take<float>(8);
  const int columns = static_cast<int>(p.columns);
  const auto count = static_cast<float>(columns);
  const float* x = p.x + BlockX() * p.columns;
  Out* out = static_cast<Out*>(p.out) + BlockX() * p.columns;
  const float mean = RowSum(
                         x, columns, [](float f) { return f; }, means) /
                     count;
  const auto squared = [mean](float f) { return (f - mean) * (f - mean); };
  const float factor = ReciprocalRoot(RowSum(x, columns, squared, variances) / count + p.eps);
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    float weight[8];
    float bias[8];
    LoadEight(x + c, eight);
    LoadEight(static_cast<const T*>(p.weight) + c, weight);
    LoadEight(static_cast<const T*>(p.bias) + c, bias);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) eight[i] = (eight[i] - mean) * factor * weight[i] + bias[i];
    StoreEight(out + c, eight);
  }
}

}  // namespace xcomposer::cuda
