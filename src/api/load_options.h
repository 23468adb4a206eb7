#pragma once

#include <cstdint>

#include "api/plan_model.h"
#include "api/prepare.h"
#include "config/model_config.h"
#include "pipeline/pipeline_options.h"
#include "placement/weight_type.h"
#include "xcomposer/engine.h"

/// EngineOptions in the words of the rooms below.
namespace xcomposer::api {

/// How the decoder's linears and the output matrix shall be kept; nothing where as they are stored.
Quantization QuantiseTo(WeightPrecision precision, const ModelConfig& config);

/// Throws what loading with int8 or int4 would: kUsage where the weights are quantised already,
/// kCheckpoint where a linear's size does not allow it.
void CheckQuantisable(const ModelConfig& config);

/// Throws what loading with bf12 would: kUsage where the weights are quantised already or what is
/// packed, of type `linears`, is not bfloat16.
void CheckPackable(const ModelConfig& config, WeightType linears);

/// The type of the weights in memory, of what is stored as `stored`. Only CPUs read 12 bits; for
/// other devices they are unpacked.
WeightType LoadedType(const EngineOptions& options, const StoredWeights& stored, bool only_cpus);

/// That of the weights that loading does not pack.
WeightType UnquantisedType(const EngineOptions& options, const StoredWeights& stored);

/// That of what bf12 would pack, as it is read.
WeightType LinearType(const EngineOptions& options, const StoredWeights& stored);

/// Whether activations are asked for in bfloat16 and this processor has products of them.
bool RoundsActivations(const EngineOptions& options);
/// Logs that they are asked for and it has none.
void WarnOfActivations(const EngineOptions& options);

inline constexpr int kMostThreads = 4096;
/// Throws kUsage for a number of threads that cannot be meant.
void CheckThreads(int threads);

/// Throws kUsage where the environment limits the instruction sets to one that there is not.
void CheckInstructionSet();

/// What requests are read with, as far as options say it.
RequestContext RequestContextFor(const EngineOptions& options, ModelConfig config);

/// What the pipeline is told. Throws kUsage for options out of range.
PipelineOptions PipelineOptionsFor(const EngineOptions& options, const ModelConfig& config,
                                   int64_t kv_positions);

}  // namespace xcomposer::api
