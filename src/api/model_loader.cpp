#include "api/model_loader.h"

#include <chrono>
#include <utility>

#include "api/load_clock.h"
#include "api/load_options.h"
#include "api/load_plan.h"
#include "api/model_folder.h"
#include "api/plan_model.h"
#include "api/random_model.h"
#include "api/rank_placement.h"
#include "api/rank_run.h"
#include "api/stop_watcher.h"
#include "base/check.h"
#include "base/current_error.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "pipeline/pipeline.h"
#include "pipeline/rank_server.h"
#include "workers/control.h"
#include "workers/layout.h"

namespace xcomposer::api {
namespace {

// Of another rank; meanwhile the heartbeat tells who is lost.
constexpr std::chrono::minutes kLongestOpen{10};

std::shared_ptr<const CheckpointTokenizer> TokenizerOf(const std::filesystem::path& folder,
                                                       Kind kind) {
  std::error_code error;
  // A link that leads nowhere is a broken checkpoint, not one without a tokenizer.
  if (!std::filesystem::exists(symlink_status(folder / "tokenizer.model", error))) {
    log::Warn(
        "no tokenizer.model in ", folder.string(),
        ": requests must be given as token ids, and answers end at config.json's eos_token_id "
        "only; eos_token_id of a request names further ends");
    return nullptr;
  }
  return LoadTokenizer(folder, TokenizerStyleFor(kind));
}

/// What every rank of a run does alike before it loads.
struct OpenedModel {
  Checkpoint checkpoint;
  ModelConfig config;
  int64_t weight_bytes = 0;
  RankedMap ranked;
  LoadPlan plan;
  PipelineOptions pipeline;
};

/// Where the stages of this process go, and how much the KV pool holds.
LoadPlan PlanHere(const EngineOptions& options, const WeightHeaders& headers, Transport* transport,
                  OpenedModel* model) {
  const StoredWeights stored = StoredWeightsOf(headers, model->config);
  if (options.weights == WeightPrecision::kBf12) {
    CheckPackable(model->config, LinearType(options, stored));
  }
  if (transport != nullptr) {
    const AskedPlacement asked = AskedOfRun(options, model->config, transport->world_size());
    AgreeOnModel(*transport, model->checkpoint, asked,
                 PipelineOptionsFor(options, model->config, kKvBlock));
    RunPlacement run = PlaceTogether(*transport, asked, options, model->config, stored);
    model->ranked = std::move(run.ranked);
    const StageLayout layout(model->ranked.rank_of_stage, transport->world_size());
    const int rank = transport->rank();
    return PlanLoad(options, model->config, stored,
                    StagesHere{model->ranked.map, layout.first_stage(rank), layout.end_stage(rank),
                               std::move(run.budgets)});
  }
  EngineOptions here = options;
  here.devices = DevicesOfOneProcess(options.devices, "--devices names");
  LoadPlan plan = PlanLoad(here, model->config, stored);
  model->ranked.map = plan.map;
  model->ranked.rank_of_stage.assign(plan.map.stages.size(), 0);
  return plan;
}

OpenedModel OpenModel(const EngineOptions& options, const std::shared_ptr<Transport>& transport) {
  const auto folder = FindModelFolder(options.model);
  OpenedModel model{Checkpoint::Open(folder), {}, 0, {}, {}, {}};
  const WeightHeaders headers = HeadersOf(model.checkpoint);
  model.config = LoadConfig(folder, headers);
  for (const std::string& note : model.config.notes) log::Info(note);
  for (const std::string& note : model.checkpoint.notes()) log::Warn(note);
  try {
    const std::vector<std::string> unused = CheckWeights(model.config, headers);
    if (!unused.empty()) log::Warn(UnusedNote(unused));
  } catch (const Error& error) {
    throw error.With("file", folder.string());
  }
  for (const TensorEntry& entry : model.checkpoint.entries()) {
    model.weight_bytes += entry.DenseBytes();
  }
  model.plan = PlanHere(options, headers, transport.get(), &model);
  int64_t positions = model.plan.kv_positions;
  if (transport != nullptr) {
    positions = AgreeOnLeast(*transport, {.value = positions, .stage = 0},
                             std::chrono::steady_clock::now() + kLongestOpen);
  }
  model.pipeline = PipelineOptionsFor(options, model.config, positions);
  WarnOfActivations(options);
  model.pipeline.transport = transport;
  model.pipeline.budgets = model.plan.budgets;
  model.pipeline.rank_of_stage = model.ranked.rank_of_stage;
  model.pipeline.memory = std::make_shared<StageMemoryBook>();
  model.pipeline.times = std::make_shared<LoadTimes>();
  return model;
}

/// Does `work`, and tells the other ranks where this one cannot even begin.
template <typename Work>
auto OnThisRank(Transport* transport, const Work& work) {
  try {
    return work();
  } catch (...) {
    if (transport == nullptr) throw;
    const Error here = CurrentError().With("rank", StrCat(transport->rank()));
    transport->Abort(here);
    throw Error(here);
  }
}

RequestContext ContextOf(const EngineOptions& options, const OpenedModel& opened) {
  const auto folder = opened.checkpoint.directory();
  RequestContext context = RequestContextFor(options, opened.config);
  context.defaults = LoadGenerationDefaults(folder, context.config.kind);
  for (const std::string& note : context.defaults.notes) log::Info(note);
  context.tokenizer = TokenizerOf(folder, context.config.kind);
  context.pictures = opened.plan.pictures;
  return context;
}

void CheckOptions(const EngineOptions& options) {
  Require(options.max_image_pixels > 0, ErrorKind::kUsage, "max_image_pixels is ",
          options.max_image_pixels, "; expected a positive number");
  CheckThreads(options.threads);
  CheckInstructionSet();
}

}  // namespace

LoadedModel LoadModel(const EngineOptions& options) {
  CheckOptions(options);
  if (options.random_weights) return DrawModel(options);
  Require(RankOf(options.ranks) == 0, ErrorKind::kUsage, "this process is rank ",
          RankOf(options.ranks), ", and only rank 0 takes requests; call Serve");
  const LoadClock clock;
  const std::shared_ptr<Transport> transport = JoinRun(options.ranks, options.ranks.stop);
  const StopWatcher watcher(options.ranks.stop, transport.get());
  OpenedModel opened = OnThisRank(transport.get(), [&] { return OpenModel(options, transport); });

  LoadedModel model;
  RequestContext& context = model.context;
  context = OnThisRank(transport.get(), [&] { return ContextOf(options, opened); });

  ModelInfo& info = model.info;
  info.path = opened.checkpoint.directory().string();
  info.kind = ToString(context.config.kind);
  const Quantization wanted = QuantiseTo(options.weights, context.config);
  info.quantization = ToString(wanted ? wanted : context.config.quantization);
  info.parameters = ParameterCount(context.config);
  info.weight_bytes = opened.weight_bytes;
  info.layers = context.config.layers;
  info.hidden = context.config.hidden_size;
  info.vocab = context.config.vocab_size;
  info.has_tokenizer = context.tokenizer != nullptr;

  model.feature_rows = opened.plan.feature_rows;
  model.executor = std::make_unique<Pipeline>(opened.checkpoint, context.config, opened.ranked.map,
                                              opened.pipeline);
  model.placement = std::make_shared<PlacementBook>(opened.config, opened.ranked, opened.plan, 0,
                                                    opened.pipeline.memory);
  for (const PlacedPart& part : model.executor->placement()) {
    info.placement.push_back({part.device, part.modules});
  }
  clock.Stop(*opened.pipeline.times, info);
  return model;
}

void ServeModel(const EngineOptions& options, const std::function<bool()>& stop) {
  CheckOptions(options);
  Require(RankOf(options.ranks) > 0, ErrorKind::kUsage,
          "this process is rank 0, which takes the requests; load an Engine");
  const std::shared_ptr<Transport> transport = JoinRun(options.ranks, stop);
  StopWatcher watcher(stop, transport.get());
  const OpenedModel opened =
      OnThisRank(transport.get(), [&] { return OpenModel(options, transport); });
  // Once the stages serve they ask themselves, and give rank 0 time to end the run.
  ServeStages(opened.checkpoint, opened.config, opened.ranked.map, opened.pipeline, [&] {
    watcher.End();
    return stop && stop();
  });
}

}  // namespace xcomposer::api

namespace xcomposer {

void Serve(const EngineOptions& options, const std::function<bool()>& stop) {
  try {
    api::ServeModel(options, stop);
  } catch (...) {
    throw CurrentError();
  }
}

}  // namespace xcomposer
