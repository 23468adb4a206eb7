#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "batch/batch.h"
#include "config/kv_type.h"
#include "config/model_config.h"

namespace xcomposer {

/// The size of the pool of KV blocks; the same in every stage, since block tables are shared.
struct KvShape {
  int64_t blocks = 0;
  int64_t block_size = 0;  ///< positions per block
};

/// Keys (after rotation) and values of some layers, in blocks that any sequence may own.
class KvCache {
 public:
  /// `options`: device and type; at::kChar for int8 (KvType::kInt8). On the CPU memory is taken
  /// from the system when a block is first written. Throws kCapacity where the address space or
  /// memory is refused.
  KvCache(const ModelConfig& config, int64_t layers, KvShape shape,
          const at::TensorOptions& options);

  at::Tensor& keys(int64_t layer) { return keys_[static_cast<size_t>(layer)]; }
  at::Tensor& values(int64_t layer) { return values_[static_cast<size_t>(layer)]; }
  const KvShape& shape() const { return shape_; }

  /// Of all tensors.
  int64_t bytes() const;

  /// Copies whole blocks in every layer, in order.
  void Copy(const std::vector<BlockCopy>& copies);

 private:
  KvShape shape_;
  std::vector<at::Tensor> keys_;  // per layer (blocks, block_size, G, D); int8: the bytes of a head
  std::vector<at::Tensor> values_;  // likewise
};

}  // namespace xcomposer
