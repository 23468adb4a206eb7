#include "api/model_loader.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "api/free_memory.h"
#include "api/model_folder.h"
#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "pipeline/pipeline.h"
#include "placement/device_map_json.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kBlockSize = 32;          // positions: little waste at a sequence's end, short block tables
constexpr int64_t kDefaultPrefillRows = 1024;  // widened weights are reused over enough rows
constexpr int64_t kDefaultAnswerRows = 1024;   // the reference's max_new_tokens
constexpr int64_t kDefaultSequences = 4;       // of full length, where memory allows
constexpr int64_t kLeastPositions = 2048;      // a picture and a short answer; less is of no use

DeviceMap MapFor(const EngineOptions& options, const ModelConfig& config) {
  if (options.device_map.empty() || options.device_map == "auto") {
    return EvenDeviceMap(config, options.devices);
  }
  std::ifstream file(options.device_map, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  Require(file.good(), ErrorKind::kPlan, "the device map '", options.device_map, "' cannot be read");
  try {
    return FromHuggingFaceJson(text.str(), config);
  } catch (const Error& error) {
    throw error.With("file", options.device_map);
  }
}

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

Quantization QuantiseTo(WeightPrecision precision) {
  switch (precision) {
    case WeightPrecision::kAsStored:
      return {};
    case WeightPrecision::kInt8:
      return kInt8;
    case WeightPrecision::kInt4:
      return kInt4;
  }
  return {};
}

// Converted weights live in memory of their own, beside the mapped file whose pages the system may drop.
int64_t WeightBytes(const EngineOptions& options, int64_t parameters, int64_t stored_bytes) {
  switch (options.dtype) {
    case StorageType::kAuto:
      return stored_bytes;
    case StorageType::kFloat32:
      return 4 * parameters;
    case StorageType::kFloat16:
    case StorageType::kBFloat16:
      return 2 * parameters;
  }
  return stored_bytes;
}

// The KV pool: what was asked for, or enough for some sequences of full length within half of the memory
// that the weights leave; the other half is for activations. Its pages are taken when first written.
int64_t KvPositions(const EngineOptions& options, const ModelConfig& config, int64_t weight_bytes) {
  Require(options.kv_tokens >= 0, ErrorKind::kUsage, "kv_tokens is ", options.kv_tokens,
          "; expected a positive number of positions, or 0 for the default");
  if (options.kv_tokens > 0) return options.kv_tokens;
  const int64_t per_position = KvBytesPerPosition(config, config.layers);
  const int64_t wanted = kDefaultSequences * (config.max_length + kDefaultAnswerRows);
  const int64_t free = HostMemory().available - weight_bytes;
  const int64_t affordable = std::max<int64_t>(0, free / 2) / per_position;
  Require(affordable >= kLeastPositions, ErrorKind::kCapacity, "the weights need ", weight_bytes >> 20,
          " MiB of ", HostMemory().available >> 20, " MiB of available memory; what is left holds a KV cache of ",
          affordable, " positions, expected at least ", kLeastPositions,
          ". Free memory, or set the number of positions (kv_tokens) yourself");
  return std::min(wanted, affordable);
}

PipelineOptions OptionsFor(const EngineOptions& options, int64_t kv_positions) {
  Require(options.threads >= 0, ErrorKind::kUsage, "threads is ", options.threads,
          "; expected a positive number, or 0 for all that this process may use");
  Require(options.prefill_chunk >= 0, ErrorKind::kUsage, "prefill_chunk is ", options.prefill_chunk,
          "; expected a positive number of rows, or 0 for the default");
  PipelineOptions pipeline;
  pipeline.threads = options.threads;
  pipeline.kv = {.blocks = (kv_positions + kBlockSize - 1) / kBlockSize, .block_size = kBlockSize};
  pipeline.max_batch_rows = options.prefill_chunk > 0 ? options.prefill_chunk : kDefaultPrefillRows;
  pipeline.storage = StorageOf(options.dtype);
  pipeline.quantise = QuantiseTo(options.weights);
  if (options.progress) {
    pipeline.progress = [progress = options.progress](const LoadStep& step) {
      progress({step.bytes_done, step.bytes_total, step.tensor});
    };
  }
  return pipeline;
}

std::shared_ptr<const CheckpointTokenizer> TokenizerOf(const std::filesystem::path& folder, Kind kind) {
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
  const Quantization wanted = QuantiseTo(options.weights);
  info.quantization = ToString(wanted ? wanted : context.config.quantization);
  info.parameters = ParameterCount(context.config);
  for (const TensorEntry& entry : checkpoint.entries()) info.weight_bytes += entry.DenseBytes();
  info.layers = context.config.layers;
  info.hidden = context.config.hidden_size;
  info.vocab = context.config.vocab_size;
  info.has_tokenizer = context.tokenizer != nullptr;

  const int64_t weight_bytes = WeightBytes(options, info.parameters, info.weight_bytes);
  const int64_t kv_positions = KvPositions(options, context.config, weight_bytes);
  model.executor = std::make_unique<Pipeline>(checkpoint, context.config, MapFor(options, context.config),
                                              OptionsFor(options, kv_positions));
  for (const PlacedPart& part : model.executor->placement()) {
    info.placement.push_back({part.device, part.modules});
  }
  info.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

}  // namespace xcomposer::api
