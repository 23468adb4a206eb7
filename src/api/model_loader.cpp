#include "api/model_loader.h"

#include <utility>

#include "api/load_plan.h"
#include "api/model_folder.h"
#include "api/plan_model.h"
#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "pipeline/pipeline.h"

namespace xcomposer::api {
namespace {

WeightStorage StorageOf(StorageType type) {
  switch (type) {
    case StorageType::kAuto:
      return WeightStorage::kAsStored;
    case StorageType::kFloat32:
      return WeightStorage::kFloat32;
    case StorageType::kFloat16:
      return WeightStorage::kFloat16;
    case StorageType::kBFloat16:
      return WeightStorage::kBFloat16;
  }
  return WeightStorage::kAsStored;
}

// Converted weights live in memory of their own, beside the mapped file whose pages the system may
// drop.
WeightType WeightTypeOf(const EngineOptions& options, const WeightHeaders& headers) {
  switch (options.dtype) {
    case StorageType::kAuto:
      return StoredType(headers);
    case StorageType::kFloat32:
      return WeightType::kFloat32;
    case StorageType::kFloat16:
      return WeightType::kFloat16;
    case StorageType::kBFloat16:
      return WeightType::kBFloat16;
  }
  return StoredType(headers);
}

PipelineOptions OptionsFor(const EngineOptions& options, int64_t kv_positions) {
  Require(options.threads >= 0, ErrorKind::kUsage, "threads is ", options.threads,
          "; expected a positive number, or 0 for all that this process may use");
  Require(options.prefill_chunk >= 0, ErrorKind::kUsage, "prefill_chunk is ", options.prefill_chunk,
          "; expected a positive number of rows, or 0 for the default");
  PipelineOptions pipeline;
  pipeline.threads = options.threads;
  pipeline.kv = {.blocks = (kv_positions + kKvBlock - 1) / kKvBlock, .block_size = kKvBlock};
  pipeline.max_batch_rows = options.prefill_chunk > 0 ? options.prefill_chunk : kPrefillChunk;
  pipeline.storage = StorageOf(options.dtype);
  if (options.progress) {
    pipeline.progress = [progress = options.progress](const LoadStep& step) {
      progress({step.bytes_done, step.bytes_total, step.tensor});
    };
  }
  return pipeline;
}

std::shared_ptr<const CheckpointTokenizer> TokenizerOf(const std::filesystem::path& folder,
                                                       Kind kind) {
  std::error_code error;
  if (!std::filesystem::exists(folder / "tokenizer.model", error)) {
    log::Warn("no tokenizer.model in ", folder.string(), ": requests must be given as token ids");
    return nullptr;
  }
  return LoadTokenizer(folder, TokenizerStyleFor(kind));
}

}  // namespace

LoadedModel LoadModel(const EngineOptions& options) {
  Require(options.max_image_pixels > 0, ErrorKind::kUsage, "max_image_pixels is ",
          options.max_image_pixels, "; expected a positive number");
  const auto start = std::chrono::steady_clock::now();
  const auto folder = FindModelFolder(options.model);
  const Checkpoint checkpoint = Checkpoint::Open(folder);
  const WeightHeaders headers = HeadersOf(checkpoint);

  LoadedModel model;
  RequestContext& context = model.context;
  context.config = LoadConfig(folder, headers);
  for (const std::string& note : context.config.notes) log::Info(note);
  CheckWeights(context.config, headers);
  context.defaults = LoadGenerationDefaults(folder, context.config.kind);
  for (const std::string& note : context.defaults.notes) log::Info(note);
  context.tokenizer = TokenizerOf(folder, context.config.kind);
  context.image_limits.max_pixels = options.max_image_pixels;
  context.video_font = options.video_font;

  ModelInfo& info = model.info;
  info.path = folder.string();
  info.kind = ToString(context.config.kind);
  info.parameters = ParameterCount(context.config);
  for (const TensorEntry& entry : checkpoint.entries()) info.weight_bytes += entry.DenseBytes();
  info.layers = context.config.layers;
  info.hidden = context.config.hidden_size;
  info.vocab = context.config.vocab_size;
  info.has_tokenizer = context.tokenizer != nullptr;

  LoadPlan plan = PlanLoad(options, context.config, WeightTypeOf(options, headers));
  context.pictures = std::move(plan.pictures);
  model.feature_rows = plan.feature_rows;
  model.executor = std::make_unique<Pipeline>(checkpoint, context.config, plan.map,
                                              OptionsFor(options, plan.kv_positions));
  for (const PlacedPart& part : model.executor->placement()) {
    info.placement.push_back({part.device, part.modules});
  }
  info.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

}  // namespace xcomposer::api
