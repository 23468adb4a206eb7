#include "api/model_loader.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "api/free_memory.h"
#include "api/model_folder.h"
#include "api/rank_run.h"
#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "pipeline/pipeline.h"
#include "pipeline/rank_server.h"
#include "placement/device_map_json.h"
#include "workers/control.h"
#include "workers/layout.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kBlockSize = 32;          // positions: little waste at a sequence's end, short block tables
constexpr int64_t kDefaultPrefillRows = 1024;  // widened weights are reused over enough rows
constexpr int64_t kDefaultAnswerRows = 1024;   // the reference's max_new_tokens
constexpr int64_t kDefaultSequences = 4;       // of full length, where memory allows
constexpr int64_t kLeastPositions = 2048;      // a picture and a short answer; less is of no use
constexpr std::chrono::minutes kLongestOpen{10};  // of another rank; the heartbeat tells who is lost

DeviceMap ReadDeviceMap(const std::string& name, const ModelConfig& config) {
  std::ifstream file(name, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  Require(file.good(), ErrorKind::kPlan, "the device map '", name, "' cannot be read");
  try {
    return FromHuggingFaceJson(text.str(), config);
  } catch (const Error& error) {
    throw error.With("file", name);
  }
}

RankedMap MapFor(const EngineOptions& options, const ModelConfig& config, int world_size) {
  RankedMap ranked;
  std::vector<RankedDevice> devices;
  if (options.device_map.empty() || options.device_map == "auto") {
    devices = DevicesOfRun(options.devices, world_size);
    std::vector<std::string> names;
    for (const RankedDevice& device : devices) names.push_back(device.device);
    ranked.map = EvenDeviceMap(config, names);
  } else {
    ranked.map = ReadDeviceMap(options.device_map, config);
    std::vector<std::string> names;
    for (const StagePlace& stage : ranked.map.stages) names.push_back(stage.device);
    Require(world_size == 1 || NamesNode(names.front()), ErrorKind::kPlan, "the device map '",
            options.device_map, "' names no ranks, and this run has ", world_size,
            " of them; write 0:cpu, 1:cpu, ...");
    devices = RankDevices(names);
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    ranked.map.stages[i].device = devices[i].device;
    ranked.rank_of_stage.push_back(devices[i].rank);
  }
  // Throws where the ranks of the stages and those of the run do not go together.
  StageLayout(ranked.rank_of_stage, world_size);
  return ranked;
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

namespace {

/// What every rank of a run does alike before it loads.
struct OpenedModel {
  Checkpoint checkpoint;
  ModelConfig config;
  int64_t weight_bytes = 0;
  RankedMap ranked;
  PipelineOptions pipeline;
};

OpenedModel OpenModel(const EngineOptions& options, const std::shared_ptr<Transport>& transport) {
  const int world_size = transport == nullptr ? 1 : transport->world_size();
  const auto folder = FindModelFolder(options.model);
  OpenedModel model{Checkpoint::Open(folder), {}, 0, {}, {}};
  const WeightHeaders headers = HeadersOf(model.checkpoint);
  model.config = LoadConfig(folder, headers);
  for (const std::string& note : model.config.notes) log::Info(note);
  CheckWeights(model.config, headers);
  for (const TensorEntry& entry : model.checkpoint.entries()) model.weight_bytes += entry.DenseBytes();
  model.ranked = MapFor(options, model.config, world_size);
  int64_t positions =
      KvPositions(options, model.config,
                  WeightBytes(options, ParameterCount(model.config), model.weight_bytes));
  if (transport != nullptr) {
    AgreeOnModel(*transport, model.checkpoint, model.ranked, OptionsFor(options, kBlockSize));
    positions = AgreeOnLeast(*transport, {.value = positions, .stage = 0},
                             std::chrono::steady_clock::now() + kLongestOpen);
  }
  model.pipeline = OptionsFor(options, positions);
  model.pipeline.transport = transport;
  model.pipeline.rank_of_stage = model.ranked.rank_of_stage;
  return model;
}

/// Tells the other ranks where this one cannot even begin.
OpenedModel OpenOnEveryRank(const EngineOptions& options,
                            const std::shared_ptr<Transport>& transport) {
  try {
    return OpenModel(options, transport);
  } catch (const Error& error) {
    if (transport == nullptr) throw;
    const Error here = error.With("rank", StrCat(transport->rank()));
    transport->Abort(here);
    throw Error(here);
  }
}

void CheckOptions(const EngineOptions& options) {
  Require(options.max_image_pixels > 0, ErrorKind::kUsage, "max_image_pixels is ",
          options.max_image_pixels, "; expected a positive number");
}

}  // namespace

LoadedModel LoadModel(const EngineOptions& options) {
  CheckOptions(options);
  const auto start = std::chrono::steady_clock::now();
  Require(RankOf(options.ranks) == 0, ErrorKind::kUsage, "this process is rank ",
          RankOf(options.ranks), ", and only rank 0 takes requests; call Serve");
  const std::shared_ptr<Transport> transport = JoinRun(options.ranks);
  OpenedModel opened = OpenOnEveryRank(options, transport);
  const auto folder = opened.checkpoint.directory();

  LoadedModel model;
  RequestContext& context = model.context;
  context.config = opened.config;
  context.defaults = LoadGenerationDefaults(folder, context.config.kind);
  for (const std::string& note : context.defaults.notes) log::Info(note);
  context.tokenizer = TokenizerOf(folder, context.config.kind);
  context.image_limits.max_pixels = options.max_image_pixels;
  context.video_font = options.video_font;

  ModelInfo& info = model.info;
  info.path = folder.string();
  info.kind = ToString(context.config.kind);
  info.parameters = ParameterCount(context.config);
  info.weight_bytes = opened.weight_bytes;
  info.layers = context.config.layers;
  info.hidden = context.config.hidden_size;
  info.vocab = context.config.vocab_size;
  info.has_tokenizer = context.tokenizer != nullptr;

  model.executor = std::make_unique<Pipeline>(opened.checkpoint, context.config, opened.ranked.map,
                                              opened.pipeline);
  for (const PlacedPart& part : model.executor->placement()) {
    info.placement.push_back({part.device, part.modules});
  }
  info.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

void ServeModel(const EngineOptions& options, const std::function<bool()>& stop) {
  CheckOptions(options);
  Require(RankOf(options.ranks) > 0, ErrorKind::kUsage,
          "this process is rank 0, which takes the requests; load an Engine");
  const std::shared_ptr<Transport> transport = JoinRun(options.ranks);
  const OpenedModel opened = OpenOnEveryRank(options, transport);
  ServeStages(opened.checkpoint, opened.config, opened.ranked.map, opened.pipeline, stop);
}

}  // namespace xcomposer::api

namespace xcomposer {

void Serve(const EngineOptions& options, const std::function<bool()>& stop) {
  api::ServeModel(options, stop);
}

}  // namespace xcomposer
