#pragma once

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

XCOMPOSER_DEVICE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }
XCOMPOSER_DEVICE float Silu(float x) { return x * Sigmoid(x); }

struct QuickGeluOf {
  XCOMPOSER_DEVICE float operator()(float x) const { return x * Sigmoid(1.702f * x); }
};
struct GeluOf {
  XCOMPOSER_DEVICE float operator()(float x) const {
    return 0.5f * x * (1.0f + Erf(x * 0.70710678f));
  }
};

/// Index of this thread's first number of eight; kernels here take eight numbers per thread.
XCOMPOSER_DEVICE int64_t FirstOfEight() {
  return 8 * (static_cast<int64_t>(BlockX()) * BlockThreads() + ThreadIndex());
}

/// The same within a row, in a grid (rows, parts of a row).
XCOMPOSER_DEVICE int64_t ColumnOfEight() {
  return 8 * (static_cast<int64_t>(BlockY()) * BlockThreads() + ThreadIndex());
}

template <typename T, typename Activation>
__global__ void __launch_bounds__(256) ActivationKernel(ActivationParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const Activation activation;
  T* x = static_cast<T*>(p.x);
  const int64_t i = FirstOfEight();
  if (i + 8 <= p.count) {
    float eight[8];
    LoadEight(x + i, eight);
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) eight[k] = activation(eight[k]);
    StoreEight(x + i, eight);
  } else {
    for (int64_t k = i; k < p.count; ++k)
      Store(x + k, FromFloat<T>(activation(ToFloat(Load(x + k)))));
  }
}

template <typename T>
__global__ void __launch_bounds__(256) AddKernel(AddParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const T* x = static_cast<const T*>(p.x);
  const int64_t i = FirstOfEight();
  if (i + 8 <= p.count) {
    float sum[8];
    float eight[8];
    LoadEight(p.y + i, sum);
    LoadEight(x + i, eight);
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) sum[k] += eight[k];
    StoreEight(p.y + i, sum);
  } else {
    for (int64_t k = i; k < p.count; ++k) Store(p.y + k, Load(p.y + k) + ToFloat(Load(x + k)));
  }
}

/// Grid (rows, parts of a row).
template <typename T>
__global__ void __launch_bounds__(256) SiluMulKernel(SiluMulParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = ColumnOfEight();
  if (c >= p.columns) return;
  const int64_t row = BlockX();
  float gate[8];
  float up[8];
  LoadEight(static_cast<const T*>(p.gate) + row * p.in_stride + c, gate);
  LoadEight(static_cast<const T*>(p.up) + row * p.in_stride + c, up);
  XCOMPOSER_UNROLL
  for (int k = 0; k < 8; ++k) gate[k] = Silu(gate[k]) * up[k];
  StoreEight(static_cast<T*>(p.out) + row * p.out_stride + c, gate);
}

/// Grid (rows, parts of a row).
template <typename T>
__global__ void __launch_bounds__(256) EmbeddingKernel(EmbeddingParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = ColumnOfEight();
  if (c >= p.columns) return;
  const int64_t row = BlockX();
  const int64_t id = Load(p.ids + row);
  float eight[8];
  if (id >= 0 && id < p.vocab) {
    LoadEight(static_cast<const T*>(p.table) + id * p.columns + c, eight);
  } else {
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) eight[k] = id < 0 ? 0.0f : FloatOf(0x7FC00000);
  }
  StoreEight(p.out + row * p.columns + c, eight);
}

}  // namespace xcomposer::cuda
