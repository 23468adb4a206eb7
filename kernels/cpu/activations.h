#pragma once

namespace xcomposer::cpu {

/// What rows of x count as where there are many of them and the weight is bfloat16.
enum class Activations {
  kFloat32,
  kBfloat16,  ///< rounded, where the processor has products of bfloat16; else float32
};

}  // namespace xcomposer::cpu
