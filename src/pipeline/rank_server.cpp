#include "pipeline/rank_server.h"

#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "pipeline/batch_check.h"
#include "pipeline/rank_start.h"
#include "pipeline/torch_stage.h"
#include "workers/follower.h"

namespace xcomposer {

void ServeStages(const Checkpoint& checkpoint, const ModelConfig& config, const DeviceMap& map,
                 const PipelineOptions& options, const std::function<bool()>& stop) {
  StartTogether(*options.transport, options.rank_of_stage,
                [&] { CheckWeights(config, HeadersOf(checkpoint)); });
  CheckpointWeights weights(checkpoint, config.quantization, options.quantise, options.storage,
                            options.progress);
  ServeStages(weights, config, map, options, stop);
}

void ServeStages(WeightSource& weights, const ModelConfig& config, const DeviceMap& map,
                 const PipelineOptions& options, const std::function<bool()>& stop) {
  Transport& transport = *options.transport;
  std::vector<std::unique_ptr<StageBody>> bodies;
  TorchStage* first = nullptr;
  TorchStage* last = nullptr;
  Follower::Options follower;
  StartTogether(transport, options.rank_of_stage, [&] {
    CheckDeviceMap(map, config);
    follower.layout = StageLayout(options.rank_of_stage, transport.world_size());
    const int rank = transport.rank();
    auto stages = LoadStages(weights, config, map, options, follower.layout.first_stage(rank),
                             follower.layout.end_stage(rank));
    first = stages.front().get();
    last = stages.back().get();
    for (auto& stage : stages) bodies.push_back(std::move(stage));
  });
  follower.links = Connected(options, follower.layout, *first, *last);
  follower.transport = options.transport;
  follower.limits = LimitsOf(config, map, options);
  follower.hidden_bytes = config.hidden_size * static_cast<int64_t>(sizeof(float));
  follower.check = [&config, limits = follower.limits](const Batch& batch) {
    // Handles of pictures mean nothing here: only their rows do.
    CheckBatch(batch, config, limits, [](FeatureHandle) { return INT64_MAX; });
  };
  Follower(std::move(bodies), std::move(follower)).Serve(stop);
}

}  // namespace xcomposer
