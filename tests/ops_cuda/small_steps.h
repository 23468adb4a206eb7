#pragma once

#include <memory>
#include <vector>

#include "model/random_weights.h"
#include "ops_cuda/stage_executor.h"
#include "pipeline/tiny_model.h"
#include "support/cuda_device.h"

namespace xcomposer {

/// Sizes that the CUDA kernels take.
inline ModelConfig SmallModel() {
  ModelConfig config = TinyModel(Kind::kVl7b);
  config.hidden_size = 128;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.intermediate_size = 160;
  config.vocab_size = 216;
  return config;
}

inline std::unique_ptr<StageExecutor> MakeSmallExecutor(const ModelConfig& config) {
  RandomWeights host(3);
  cuda_testing::DeviceWeights weights(host, at::kHalf);
  const c10::InferenceMode inference;
  return std::make_unique<StageExecutor>(
      config, weights, KvShape{.blocks = 12, .block_size = 8},
      at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
}

/// Three sequences of different lengths: their prompts (step 0), then three steps together.
class SmallSteps {
 public:
  static constexpr int64_t kSteps = 4;
  static constexpr int64_t kSequences = 3;

  explicit SmallSteps(const ModelConfig& config) : config_(config) {
    for (int32_t s = 0; s < kSequences; ++s) {
      sequences_.push_back(MakeSequence(kPrompts[s] + 3, {}, {4 * s + 2, 4 * s, 4 * s + 1}));
    }
  }

  Batch At(int64_t step) const {
    Batch batch;
    for (size_t s = 0; s < kSequences; ++s) {
      const int64_t end = kPrompts[s] + step;
      AddSlice(batch, sequences_[s], step == 0 ? 0 : end - 1, end, config_);
    }
    return batch;
  }

 private:
  static constexpr int64_t kPrompts[] = {5, 9, 16};

  const ModelConfig config_;
  std::vector<TinySequence> sequences_;
};

}  // namespace xcomposer
