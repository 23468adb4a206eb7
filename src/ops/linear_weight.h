#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

namespace xcomposer::ops {

/// How the numbers of a linear's weight W (N outputs, K inputs) are stored.
enum class WeightPacking {
  kDense,  ///< float32, bfloat16 or float16 as they are
  kGptq4,  ///< GPTQ with 4 bits
  kGptq8,  ///< GPTQ with 8 bits
  kAwq4,   ///< AWQ ("GEMM") with 4 bits
  kInt4,   ///< quantised by this program to 4 bits: panels of outputs, products in integers
  kInt8,   ///< the same with 8 bits
  kBf12,   ///< bfloat16 in 12 bits, exactly: not quantised (kernels/cpu/bf12_matrix.h)
};

/// "dense", "gptq4", "gptq8", "awq4", "int4", "int8", "bf12".
const char* ToString(WeightPacking packing);

/// A linear layer's weight in any of the formats that Linear reads: what a layer holds and a back
/// end unpacks. A value; copies share the tensors. docs/quantisation.md shows the packings.
struct LinearWeight {
  WeightPacking packing = WeightPacking::kDense;
  /// Dense (N, K); else int32 words: GPTQ (K * bits / 32, N), AWQ (K, N / 8), own
  /// (N / 16, K * bits / 32, 16), kBf12 (N / 4, K / 128, 192).
  at::Tensor data;
  /// float16 (groups, N), own (N / 16, groups, 16), kBf12 float32 (N); undefined where dense
  at::Tensor scales;
  /// int32 (groups, N * bits / 32), own (N / 16, groups, bits / 2), as stored; kBf12 the outliers,
  /// int32: N / 4 + 1 places, then pairs; undefined where dense
  at::Tensor zeros;
  int64_t group = 0;  ///< inputs that share a scale and a zero; a multiple of 8; kBf12 0
  std::optional<at::Tensor> bias = std::nullopt;  ///< (N) bfloat16, float16 or float32

  /// From the arguments of the op linear_packed. Throws kInternal for an unknown packing.
  static LinearWeight Packed(c10::string_view packing, const at::Tensor& words,
                             const at::Tensor& scales, const at::Tensor& zeros, int64_t group,
                             const std::optional<at::Tensor>& bias);
  /// The same of (words, scales, zeros), without a bias.
  static LinearWeight Packed(c10::string_view packing, at::TensorList parts, int64_t group);
  static LinearWeight Dense(at::Tensor weight) {
    LinearWeight dense;
    dense.data = std::move(weight);
    return dense;
  }

  /// Of a quantised weight.
  int bits() const {
    return packing == WeightPacking::kGptq8 || packing == WeightPacking::kInt8 ? 8 : 4;
  }
  int64_t outputs() const;  ///< N
  int64_t inputs() const;   ///< K
  int64_t nbytes() const;   ///< of all its tensors
};

/// Room on the CPU for numbers of a weight, in large pages where the system grants them, as a
/// mapped file's may lie (docs/benchmarks/cpu.md has what they are worth).
at::Tensor EmptyWeight(at::IntArrayRef shape, at::ScalarType type);

/// W as float32 (N, K): exact for the packed formats. On the CPU.
at::Tensor Dequantised(const LinearWeight& weight);

}  // namespace xcomposer::ops
