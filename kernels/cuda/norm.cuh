#pragma once

#include "kernels/cuda/kept_row.cuh"
#include "kernels/cuda/norm.h"

namespace xcomposer::cuda {

// One block per row. The row is read again from cache for each pass over it, but for what
// RmsNormKernel keeps: holding all of it in registers would fix the number of columns at compile
// time.

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

/// In a step of decoding everything waits for this kernel: the norm's weights are there before the
/// row is.
template <typename T>
__global__ void __launch_bounds__(256) RmsNormKernel(NormParams p) {
  GridDependencyLaunch();
  SharedArena arena;
  const Shared<float> partial = arena.Take<float>(8);
  const int columns = static_cast<int>(p.columns);
  const T* weights = static_cast<const T*>(p.weight);
  Vector16 kept_weights[KeptRow::kKept];
  XCOMPOSER_UNROLL
  for (int k = 0; k < KeptRow::kKept; ++k) {
    kept_weights[k] =
        LoadStream(weights + Min(8 * (ThreadIndex() + k * BlockThreads()), columns - 8));
  }
  GridDependencyWait();
  const KeptRow row(p.x + BlockX() * p.columns, columns, BlockThreads());
  const float squares = BlockSum(row.Squares(), partial);
  const float factor = ReciprocalRoot(squares / static_cast<float>(columns) + p.eps);
  T* out = static_cast<T*>(p.out) + BlockX() * p.out_stride;
  row.ForParts([&](int part, int c, const float(&eight)[8]) {
    float scaled[8];
    Unpack<T>(part < KeptRow::kKept ? kept_weights[part] : LoadStream(weights + c), scaled);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) scaled[i] = eight[i] * factor * scaled[i];
    StoreEight(out + c, scaled);
  });
}

/// Of a row whose sum is known.
template <typename T, typename Out>
XCOMPOSER_DEVICE void LayerNormRow(const float* x, float sum, const void* weights,
                                   const void* biases, float eps, Out* out, int columns,
                                   const Shared<float>& partial) {
  const auto count = static_cast<float>(columns);
  const float mean = sum / count;
  const auto squared = [mean](float f) { return (f - mean) * (f - mean); };
  const float factor = ReciprocalRoot(RowSum(x, columns, squared, partial) / count + eps);
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    float weight[8];
    float bias[8];
    LoadEight(x + c, eight);
    LoadEight(static_cast<const T*>(weights) + c, weight);
    LoadEight(static_cast<const T*>(biases) + c, bias);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) eight[i] = (eight[i] - mean) * factor * weight[i] + bias[i];
    StoreEight(out + c, eight);
  }
}

template <typename T, typename Out>
__global__ void __launch_bounds__(256) LayerNormKernel(NormParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> sums = arena.Take<float>(8);
  const Shared<float> variances = arena.Take<float>(8);
  const int columns = static_cast<int>(p.columns);
  const float* x = p.x + BlockX() * p.columns;
  const float sum = RowSum(
      x, columns, [](float f) { return f; }, sums);
  LayerNormRow<T>(x, sum, p.weight, p.bias, p.eps, static_cast<Out*>(p.out) + BlockX() * p.columns,
                  columns, variances);
}

template <typename T>
__global__ void __launch_bounds__(256) AddLayerNormKernel(AddNormParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> sums = arena.Take<float>(8);
  const Shared<float> variances = arena.Take<float>(8);
  const int columns = static_cast<int>(p.columns);
  float* x = p.x + BlockX() * p.columns;
  const T* added = static_cast<const T*>(p.added) + BlockX() * p.columns;
  float sum = 0.0f;
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    float more[8];
    LoadEight(x + c, eight);
    LoadEight(added + c, more);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) {
      eight[i] += more[i];
      sum += eight[i];
    }
    StoreEight(x + c, eight);  // the passes below read it back: each thread what it wrote itself
  }
  sum = BlockSum(sum, sums);
  LayerNormRow<T>(x, sum, p.weight, p.bias, p.eps, static_cast<T*>(p.out) + BlockX() * p.columns,
                  columns, variances);
}

}  // namespace xcomposer::cuda
