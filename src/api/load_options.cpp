#include "api/load_options.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/packed_matrix.h"
#include "placement/workload.h"

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

std::optional<WeightType> TypeAskedFor(StorageType dtype) {
  switch (dtype) {
    case StorageType::kAuto:
      return std::nullopt;
    case StorageType::kFloat32:
      return WeightType::kFloat32;
    case StorageType::kFloat16:
      return WeightType::kFloat16;
    case StorageType::kBFloat16:
      return WeightType::kBFloat16;
  }
  return std::nullopt;
}

}  // namespace

Quantization QuantiseTo(WeightPrecision precision, const ModelConfig& config) {
  switch (precision) {
    case WeightPrecision::kAsStored:
    case WeightPrecision::kBf12:
      return {};
    case WeightPrecision::kInt8:
      return kInt8.ForVocabulary(config.vocab_size);
    case WeightPrecision::kInt4:
      return kInt4.ForVocabulary(config.vocab_size);
  }
  return {};
}

// Converted weights live in memory of their own, beside the mapped file whose pages the system may
// drop.
WeightType LoadedType(const EngineOptions& options, const StoredWeights& stored, bool only_cpus) {
  if (options.weights == WeightPrecision::kBf12) return WeightType::kBf12;
  if (options.weights == WeightPrecision::kInt8) return WeightType::kInt8;
  if (options.weights == WeightPrecision::kInt4) return WeightType::kInt4;
  const bool same_numbers =
      options.dtype == StorageType::kAuto || options.dtype == StorageType::kBFloat16;
  if (stored.bf12 && same_numbers && only_cpus) return WeightType::kBf12;
  return UnquantisedType(options, stored);
}

WeightType UnquantisedType(const EngineOptions& options, const StoredWeights& stored) {
  return TypeAskedFor(options.dtype).value_or(stored.type);
}

WeightType LinearType(const EngineOptions& options, const StoredWeights& stored) {
  return TypeAskedFor(options.dtype).value_or(stored.linears);
}

bool RoundsActivations(const EngineOptions& options) {
  return options.activations == ActivationPrecision::kBFloat16 &&
         cpu::HasBfloatProducts(cpu::BestIsa());
}

void WarnOfActivations(const EngineOptions& options) {
  if (options.activations == ActivationPrecision::kFloat32 || RoundsActivations(options)) return;
  log::Warn("activations stay float32: this processor's kernels (", cpu::ToString(cpu::BestIsa()),
            ") have no products of bfloat16");
}

void CheckQuantisable(const ModelConfig& config) {
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised already (",
          ToString(config.quantization), "); leave --weights out");
  for (const int64_t size : {config.hidden_size, config.wqkv_rows(), config.intermediate_size}) {
    Require(size % cpu::kPanelOutputs == 0, ErrorKind::kCheckpoint, "a linear of the decoder has ",
            size, " outputs; only multiples of ", cpu::kPanelOutputs, " can be quantised");
  }
}

void CheckPackable(const ModelConfig& config, WeightType linears) {
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised already (",
          ToString(config.quantization), "), and bf12 packs bfloat16 only; leave --weights out");
  Require(linears == WeightType::kBFloat16, ErrorKind::kUsage, "the weights are ",
          ToString(linears), ", and bf12 packs bfloat16 only; --dtype bf16 would round them first");
}

void CheckThreads(int threads) {
  Require(threads >= 0 && threads <= kMostThreads, ErrorKind::kUsage, "threads is ", threads,
          "; expected a number up to ", kMostThreads, ", or 0 for all that this process may use");
}

void CheckInstructionSet() {
  const std::string problem = cpu::MaxIsaProblem();
  Require(problem.empty(), ErrorKind::kUsage, problem);
}

RequestContext RequestContextFor(const EngineOptions& options, ModelConfig config) {
  RequestContext context;
  context.config = std::move(config);
  context.image_limits.max_pixels = options.max_image_pixels;
  context.video_font = options.video_font;
  return context;
}

PipelineOptions PipelineOptionsFor(const EngineOptions& options, const ModelConfig& config,
                                   int64_t kv_positions) {
  Require(options.prefill_chunk >= 0, ErrorKind::kUsage, "prefill_chunk is ", options.prefill_chunk,
          "; expected a positive number of rows, or 0 for the default");
  PipelineOptions pipeline;
  pipeline.threads = options.threads;
  pipeline.kv = {.blocks = (kv_positions + kKvBlock - 1) / kKvBlock, .block_size = kKvBlock};
  pipeline.int8_kv = options.kv_precision == KvPrecision::kInt8;
  if (options.activations == ActivationPrecision::kBFloat16) {
    pipeline.activations = cpu::Activations::kBfloat16;
  }
  pipeline.max_batch_rows = options.prefill_chunk > 0 ? options.prefill_chunk : kPrefillChunk;
  pipeline.storage = StorageOf(options.dtype);
  pipeline.quantise = QuantiseTo(options.weights, config);
  pipeline.pack_bf12 = options.weights == WeightPrecision::kBf12;
  if (options.progress) {
    pipeline.progress = [progress = options.progress](const LoadStep& step) {
      progress({step.bytes_done, step.bytes_total, step.tensor});
    };
  }
  return pipeline;
}

}  // namespace xcomposer::api
