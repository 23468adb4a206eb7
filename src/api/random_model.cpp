#include "api/random_model.h"

#include <filesystem>
#include <utility>

#include "api/load_clock.h"
#include "api/load_options.h"
#include "api/load_plan.h"
#include "api/rank_run.h"
#include "base/check.h"
#include "config/published_config.h"
#include "config/weight_names.h"
#include "pipeline/random_pipeline.h"

namespace xcomposer::api {
namespace {

int64_t BytesOf(const ModelConfig& config, WeightType type, WeightType unquantised) {
  int64_t bytes = 0;
  for (const WeightSpec& spec : WeightTable(config)) bytes += WeightBytes(spec, type, unquantised);
  return bytes;
}

ModelInfo InfoOf(const EngineOptions& options, const ModelConfig& config, WeightType type) {
  ModelInfo info;
  info.path = options.model;
  info.kind = ToString(config.kind);
  info.quantization = ToString(config.quantization);
  info.parameters = ParameterCount(config);
  info.weight_bytes = BytesOf(config, type, UnquantisedType(options, {}));
  info.layers = config.layers;
  info.hidden = config.hidden_size;
  info.vocab = config.vocab_size;
  return info;
}

}  // namespace

PlanSubject ReadRandomSubject(const std::string& model) {
  for (const Kind kind : kAllKinds) {
    if (model == ToString(kind)) return {PublishedConfig(kind), {}};
  }
  std::error_code ignored;
  if (std::filesystem::exists(model, ignored)) {
    PlanSubject subject = ReadPlanSubject(model, "");
    subject.stored = {};  // drawn as bfloat16, whatever is stored there
    subject.config.in_12_bits.clear();
    return subject;
  }
  std::string kinds;
  for (const Kind kind : kAllKinds) kinds += StrCat(kinds.empty() ? "" : ", ", ToString(kind));
  throw Error(ErrorKind::kConfig,
              StrCat("'", model, "' is neither a kind (", kinds,
                     ") nor a config.json nor a folder with one"),
              {{"model", model}});
}

LoadedModel DrawModel(const EngineOptions& options) {
  const LoadClock clock;
  Require(!IsDistributed(options.ranks), ErrorKind::kUsage,
          "random weights are for one process; a run over several needs a checkpoint");
  LoadedModel model;
  RequestContext& context = model.context;
  context = RequestContextFor(options, ReadRandomSubject(options.model).config);
  context.defaults = ChatDefaults(context.config.kind);
  const Quantization wanted = QuantiseTo(options.weights, context.config);
  Require(!wanted || !context.config.quantization, ErrorKind::kUsage,
          "the linears of this size are quantised already (", ToString(context.config.quantization),
          "); leave --weights out");
  if (wanted) context.config.quantization = wanted;
  if (options.weights == WeightPrecision::kBf12) {
    CheckPackable(context.config, LinearType(options, {}));
  }
  const WeightType type = LoadedType(options, {}, true);
  model.info = InfoOf(options, context.config, type);

  EngineOptions here = options;
  here.devices = DevicesOfOneProcess(options.devices, "--devices names");
  LoadPlan plan = PlanLoad(here, context.config, {});
  PipelineOptions pipeline = PipelineOptionsFor(here, context.config, plan.kv_positions);
  WarnOfActivations(here);
  pipeline.budgets = plan.budgets;
  pipeline.memory = std::make_shared<StageMemoryBook>();
  pipeline.times = std::make_shared<LoadTimes>();
  model.executor = DrawPipeline(context.config, plan.map, pipeline);
  const RankedMap ranked{plan.map, std::vector<int>(plan.map.stages.size(), 0)};
  model.placement =
      std::make_shared<PlacementBook>(context.config, ranked, plan, 0, pipeline.memory);
  for (const PlacedPart& part : model.executor->placement()) {
    model.info.placement.push_back({part.device, part.modules});
  }
  model.feature_rows = plan.feature_rows;
  context.pictures = std::move(plan.pictures);
  clock.Stop(*pipeline.times, model.info);
  return model;
}

}  // namespace xcomposer::api
