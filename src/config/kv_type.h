#pragma once

#include <cstdint>

#include "config/model_config.h"

namespace xcomposer {

/// How keys and values are kept.
enum class KvType {
  kFloat32,  ///< as the CPU computes them
  k16Bit,    ///< as CUDA computes them: float16 or bfloat16
  /// Codes of 8 bits with a bfloat16 scale for every 32 numbers of a head, of which the last group
  /// is filled up (kernels/cpu/kv_format.h). CPU only.
  kInt8,
};

/// "fp32", "16-bit", "int8".
const char* ToString(KvType type);

/// Bytes of the keys or values of one head at one position.
int64_t KvHeadBytes(KvType type, int64_t head_dim);

/// Bytes of the keys and values of one position in one layer.
int64_t KvBytesPerPosition(const ModelConfig& config, KvType type);

}  // namespace xcomposer
