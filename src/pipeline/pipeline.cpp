#include "pipeline/pipeline.h"

#include <c10/core/InferenceMode.h>

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "config/weight_names.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/thread_pool.h"
#include "pipeline/batch_check.h"
#include "pipeline/stage.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

at::Device TorchDevice(const std::string& name) {
  if (name.rfind("cpu", 0) == 0) return at::Device(at::kCPU);
  throw Error(ErrorKind::kDevice, StrCat("no stage can run on ", name, " in this build; use cpu"),
              {{"device", name}});
}

}  // namespace

struct Pipeline::Running {
  explicit Running(int threads) : pool(threads > 0 ? threads : cpu::UsableCores()) {}

  cpu::ThreadPool pool;  // shared by the CPU stages, which run one after the other
  std::vector<Stage> stages;
  std::map<FeatureHandle, at::Tensor> features;
  FeatureHandle next_feature = 1;

  at::Tensor Feature(FeatureHandle handle) const {
    const auto it = features.find(handle);
    Check(it != features.end(), "unknown picture features ", handle);
    return it->second;
  }
};

Pipeline::Pipeline(const Checkpoint& checkpoint, const ModelConfig& config, const DeviceMap& map,
                   const PipelineOptions& options)
    : config_(config), map_(map) {
  CheckWeights(config, HeadersOf(checkpoint));
  CheckpointWeights weights(checkpoint, config.quantization, options.quantise, options.storage,
                            options.progress);
  Build(weights, options);
  if (weights.cast_counts().underflows > 0) {
    log::Warn(weights.cast_counts().underflows, " weights became zero in the wanted storage type");
  }
}

Pipeline::Pipeline(WeightSource& weights, const ModelConfig& config, const DeviceMap& map,
                   const PipelineOptions& options)
    : config_(config), map_(map) {
  Build(weights, options);
}

Pipeline::~Pipeline() = default;

void Pipeline::Build(WeightSource& weights, const PipelineOptions& options) {
  CheckDeviceMap(map_, config_);
  Require(options.max_batch_rows > 0, ErrorKind::kUsage, "max_batch_rows is ",
          options.max_batch_rows);
  limits_ = {.vocab = config_.vocab_size,
             .kv_blocks = options.kv.blocks,
             .block_size = options.kv.block_size,
             .max_batch_rows = options.max_batch_rows};
  running_ = std::make_unique<Running>(options.threads);
  const c10::InferenceMode inference;
  Translated("loading the model", [&] {
    for (size_t i = 0; i < map_.stages.size(); ++i) {
      const StagePlace& place = map_.stages[i];
      const StageRange range = {.first_layer = place.first_layer,
                                .end_layer = place.end_layer,
                                .first = i == 0,
                                .last = i + 1 == map_.stages.size()};
      running_->stages.emplace_back(config_, range, weights, options.kv, TorchDevice(place.device));
    }
  });
}

std::vector<PlacedPart> Pipeline::placement() const {
  std::vector<PlacedPart> parts;
  for (size_t i = 0; i < map_.stages.size(); ++i) {
    parts.push_back({map_.stages[i].device, ModulesOfStage(map_, config_, i)});
  }
  return parts;
}

EncodedPicture Pipeline::Encode(const Picture& picture, const std::string& tap_prefix,
                                const TapSink& taps) {
  const c10::InferenceMode inference;
  const cpu::ThreadPoolScope threads(running_->pool);
  return Translated("encoding a picture", [&] {
    const at::Tensor rows = running_->stages.front().Encode(picture, tap_prefix, taps);  // (S, C)
    const FeatureHandle handle = running_->next_feature++;
    running_->features.emplace(handle, rows);
    return EncodedPicture{.feature = handle, .rows = rows.size(0)};
  });
}

void Pipeline::Release(FeatureHandle feature) { running_->features.erase(feature); }

Logits Pipeline::Forward(const Batch& batch) {
  CheckBatch(batch, config_, limits_, [&](FeatureHandle handle) -> std::optional<int64_t> {
    const auto it = running_->features.find(handle);
    if (it == running_->features.end()) return std::nullopt;
    return it->second.size(0);
  });
  const c10::InferenceMode inference;
  const cpu::ThreadPoolScope threads(running_->pool);
  return Translated("running a batch", [&] {
    std::vector<Stage>& stages = running_->stages;
    at::Tensor hidden = stages.front().Embed(
        batch, [&](FeatureHandle handle) { return running_->Feature(handle); });  // (T, C)
    for (Stage& stage : stages) {
      hidden = hidden.to(stage.device());
      stage.Run(hidden, batch);
    }
    return stages.back().Score(hidden, batch);
  });
}

}  // namespace xcomposer
