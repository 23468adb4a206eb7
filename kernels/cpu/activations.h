#pragma once

namespace xcomposer::cpu {

/// What activations count as where there are many rows of them: beside bfloat16 weights and
/// official packings, and in attention.
enum class Activations {
  kFloat32,
  kBfloat16,  ///< rounded, where the processor has products of bfloat16; else float32
};

}  // namespace xcomposer::cpu
