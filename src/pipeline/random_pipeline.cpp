#include "pipeline/random_pipeline.h"

#include <algorithm>

#include "base/check.h"
#include "config/weight_names.h"
#include "model/random_weights.h"
#include "placement/weight_type.h"

namespace xcomposer {
namespace {

constexpr uint64_t kSeed = 1;

at::ScalarType ScalarTypeOf(WeightStorage storage) {
  switch (storage) {
    case WeightStorage::kFloat32:
      return at::kFloat;
    case WeightStorage::kFloat16:
      return at::kHalf;
    case WeightStorage::kAsStored:
    case WeightStorage::kBFloat16:
      break;
  }
  return at::kBFloat16;
}

int64_t BytesOf(const ModelConfig& config, WeightStorage storage) {
  const WeightType type =
      storage == WeightStorage::kFloat32 ? WeightType::kFloat32 : WeightType::kBFloat16;
  int64_t bytes = 0;
  for (const WeightSpec& spec : WeightTable(config)) bytes += WeightBytes(spec, type);
  return bytes;
}

}  // namespace

std::unique_ptr<Pipeline> DrawPipeline(const ModelConfig& config, const DeviceMap& map,
                                       const PipelineOptions& options) {
  Check(options.transport == nullptr, "random weights are drawn in one process only");
  RandomWeights weights(kSeed, config.quantization, ScalarTypeOf(options.storage));
  LoadStep step;
  step.bytes_total = BytesOf(config, options.storage);
  if (options.progress) {
    weights.OnDrawn([&](int64_t bytes, const std::string& name) {
      step.bytes_done = std::min(step.bytes_done + bytes, step.bytes_total);
      step.tensor = name;
      options.progress(step);
    });
  }
  return std::make_unique<Pipeline>(weights, config, map, options);
}

}  // namespace xcomposer
