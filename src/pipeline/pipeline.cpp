#include "pipeline/pipeline.h"

#include <c10/core/InferenceMode.h>

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "config/weight_names.h"
#include "pipeline/batch_check.h"
#include "pipeline/rank_start.h"
#include "pipeline/torch_stage.h"
#include "transport/transport_options.h"
#include "workers/leader.h"

namespace xcomposer {
namespace {

std::vector<std::string> TapNames(const ModelConfig& config) {
  std::vector<std::string> names = {"inputs_embeds", "im_mask"};
  for (int64_t n = 0; n < config.layers; ++n) names.push_back(StrCat("layer", n, ".out"));
  names.push_back("final_norm.out");
  return names;
}

/// A request may want the scores of every row ("forward"), in one frame.
void RequireScoresTravel(int64_t rows, const ModelConfig& config) {
  const int64_t row_bytes = config.vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t most = TransportOptions().max_payload_bytes / row_bytes;
  Require(rows <= most, ErrorKind::kUsage, "batches of ", rows, " rows (prefill_chunk) with ",
          config.vocab_size,
          " scores each are more than ranks send to each other at once; at most ", most,
          " rows over several processes");
}

}  // namespace

struct Pipeline::Running {
  TorchStage* first = nullptr;  // owned by the leader
  std::unique_ptr<Leader> leader;
  PictureRows features;
  FeatureHandle next_feature = 1;
};

Pipeline::Pipeline(const Checkpoint& checkpoint, const ModelConfig& config, const DeviceMap& map,
                   const PipelineOptions& options)
    : config_(config), map_(map) {
  const auto check = [&] { CheckWeights(config, HeadersOf(checkpoint)); };
  if (options.transport != nullptr) {
    StartTogether(*options.transport, options.rank_of_stage, check);
  } else {
    check();
  }
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
  running_ = std::make_unique<Running>();
  Leader::Options leader;
  std::vector<std::unique_ptr<StageBody>> bodies;
  TorchStage* last = nullptr;  // here
  const auto load = [&] {
    CheckDeviceMap(map_, config_);
    Require(options.max_batch_rows > 0, ErrorKind::kUsage, "max_batch_rows is ",
            options.max_batch_rows);
    if (options.transport != nullptr) RequireScoresTravel(options.max_batch_rows, config_);
    leader.layout = options.transport == nullptr
                        ? LocalLayout(static_cast<int>(map_.stages.size()))
                        : StageLayout(options.rank_of_stage, options.transport->world_size());
    auto stages = LoadStages(weights, config_, map_, options, 0, leader.layout.end_stage(0));
    running_->first = stages.front().get();
    last = stages.back().get();
    for (auto& stage : stages) bodies.push_back(std::move(stage));
  };
  if (options.transport != nullptr) {
    rank_of_stage_ = options.rank_of_stage;
    StartTogether(*options.transport, options.rank_of_stage, load);
    leader.links = Connected(options, leader.layout, *running_->first, *last);
  } else {
    load();
  }
  limits_ = LimitsOf(config_, map_, options);
  leader.transport = options.transport;
  leader.limits = limits_;
  leader.hidden_bytes = config_.hidden_size * static_cast<int64_t>(sizeof(float));
  leader.tap_names = TapNames(config_);
  running_->leader = std::make_unique<Leader>(std::move(bodies), std::move(leader));
}

std::vector<PlacedPart> Pipeline::placement() const {
  std::vector<PlacedPart> parts;
  for (size_t i = 0; i < map_.stages.size(); ++i) {
    std::string device = map_.stages[i].device;
    if (!rank_of_stage_.empty()) device = StrCat(rank_of_stage_[i], ":", device);
    parts.push_back({std::move(device), ModulesOfStage(map_, config_, i)});
  }
  return parts;
}

EncodedPicture Pipeline::Encode(const Picture& picture, const std::string& tap_prefix,
                                const TapSink& taps, const StopTest& stop) {
  at::Tensor rows;        // (S, C)
  std::vector<Tap> kept;  // the listener is called on this thread
  const TapSink keep = {taps.wants, [&kept](Tap&& tap) { kept.push_back(std::move(tap)); }};
  running_->leader->CallOnFirst(
      [&] { rows = running_->first->Encode(picture, tap_prefix, keep, stop); });
  for (Tap& tap : kept) taps.put(std::move(tap));
  const FeatureHandle handle = running_->next_feature++;
  running_->features.emplace(handle, rows);
  return EncodedPicture{.feature = handle, .rows = rows.size(0)};
}

void Pipeline::Release(FeatureHandle feature) { running_->features.erase(feature); }

void Pipeline::Submit(Batch batch) {
  const PictureRows& features = running_->features;
  CheckBatch(batch, config_, limits_, [&](FeatureHandle handle) -> std::optional<int64_t> {
    const auto it = features.find(handle);
    if (it == features.end()) return std::nullopt;
    return it->second.size(0);
  });
  auto used = std::make_shared<PictureRows>();
  for (const FeatureSpan& span : batch.features) {
    used->emplace(span.feature, features.at(span.feature));
  }
  running_->leader->Submit(std::move(batch), std::move(used));
}

Logits Pipeline::Collect() { return running_->leader->Collect(); }

}  // namespace xcomposer
