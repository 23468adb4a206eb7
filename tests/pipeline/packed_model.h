#pragma once

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/safetensors_writer.h"
#include "config/weight_names.h"
#include "gtest/gtest.h"
#include "model/random_weights.h"
#include "tiny_model.h"

namespace xcomposer {

/// A vocabulary that an output matrix can be packed with.
inline constexpr int64_t kVocabulary = 216;

inline ModelConfig PackedModel(Kind kind, const Quantization& stored) {
  ModelConfig config = TinyModel(kind);
  config.vocab_size = kVocabulary;
  config.quantization = stored;
  return config;
}

/// The same of sizes that fill panels of 16 outputs, and no block of inputs: what this program
/// quantises.
inline ModelConfig PanelModel(Kind kind, const Quantization& stored) {
  ModelConfig config = PackedModel(kind, stored);
  config.intermediate_size = 144;
  config.vocab_size = 224;
  return config;
}

/// A model that bf12 can pack but for w2, which has 136 inputs.
inline ModelConfig BlockModel(Kind kind = Kind::kVl7b) {
  ModelConfig config = TinyModel(kind);
  config.hidden_size = 256;
  config.heads = 4;
  config.kv_heads = 2;
  config.vocab_size = 212;
  return config;
}

/// A folder of this process, since tests of one fixture run side by side, that goes away.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(std::filesystem::path(testing::TempDir()) /
              ("xcomposer_packed_" + std::to_string(getpid()) + "_" + name)) {
    std::filesystem::remove_all(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Writes a checkpoint of random weights; `change` may alter a tensor, or take it away by returning
/// an undefined one.
inline void WriteRandom(
    const ModelConfig& config, const std::filesystem::path& folder,
    const std::function<at::Tensor(const std::string&, at::Tensor)>& change = {}) {
  const c10::InferenceMode inference;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const WeightSpec& spec : WeightTable(config)) {
    at::Tensor tensor;
    if (spec.name.find(".g_idx") != std::string::npos) {
      tensor = at::arange(spec.shape[0], at::kInt)
                   .div(config.quantization.GroupOf(spec.shape[0]), "floor")
                   .to(at::kInt);
    } else if (spec.numbers == NumberKind::kInt32) {
      tensor = at::full(spec.shape, 0x76543210, at::kInt);
    } else if (spec.numbers == NumberKind::kFloat16) {
      tensor = at::full(spec.shape, 0.01, at::kHalf);
    } else {
      RandomWeights weights(3);
      tensor = weights.Take(spec.name, spec.shape);
    }
    if (change) tensor = change(spec.name, tensor);
    if (tensor.defined()) tensors.push_back({spec.name, tensor.contiguous()});
  }
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors) {
    const DType type = tensor.scalar_type() == at::kInt     ? DType::kI32
                       : tensor.scalar_type() == at::kHalf  ? DType::kF16
                       : tensor.scalar_type() == at::kFloat ? DType::kF32
                                                            : DType::kBF16;
    sources.push_back(
        {name, type, tensor.sizes().vec(), [tensor = tensor](const ByteSink& sink) {
           sink({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
         }});
  }
  WriteSafetensors(sources, folder, {});
}

}  // namespace xcomposer
