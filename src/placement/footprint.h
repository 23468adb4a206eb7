#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "placement/cluster.h"
#include "placement/memory_formula.h"
#include "placement/time_formula.h"
#include "placement/workload.h"
#include "xcomposer/plan.h"

namespace xcomposer {

/// A part of the model: what it needs on any device of the cluster, beside the overhead that every
/// stage has.
struct ModuleFootprint {
  std::string name;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t workspace_bytes = 0;
  Work cpu_step;  ///< one step of the workload
  Work cuda_step;
  Work prompt;   ///< of one request
  Work picture;  ///< each of one request

  int64_t bytes() const { return weight_bytes + kv_bytes + activation_bytes + workspace_bytes; }
  const Work& StepOn(const std::string& kind) const {
    return kind == "cuda" ? cuda_step : cpu_step;
  }
};

/// What every stage on a device of one kind needs: its runtime, what one decoder layer needs for
/// one step, which is the same however many layers the stage has, and the hidden rows of other
/// batches that wait for it or are being sent on.
struct StageOverhead {
  int64_t runtime = 0;
  int64_t activations = 0;
  int64_t workspace = 0;

  int64_t bytes() const { return runtime + activations + workspace; }
};

/// The model under a workload on a cluster. Where a cluster has devices of both kinds a part's
/// bytes are the larger of the two, so that it has one size wherever it is put.
struct CostTable {
  std::vector<ModuleFootprint> modules;  ///< in the order of computation
  int64_t first_modules = 0;             ///< of them, those that belong to the first stage
  int64_t last_modules = 0;              ///< and to the last
  StageOverhead cpu;
  StageOverhead cuda;
  Objective goal = Objective::kThroughput;
  int64_t step_sequences = 1;
  int64_t hop_bytes = 0;  ///< handed from stage to stage in one step
  int64_t images = 0;     ///< of one request
  int64_t answer_tokens = 0;
  PromptChunks prompt;

  const StageOverhead& OverheadOn(const std::string& kind) const {
    return kind == "cuda" ? cuda : cpu;
  }

  /// Seconds of one step.
  double StepSeconds(const ModuleFootprint& module, const ClusterDevice& device) const;
  double StepSeconds(const Link& link) const;

  /// Of one request: its pictures, its prompt, and the steps of its answer one after the other.
  double RequestSeconds(const ModuleFootprint& module, const ClusterDevice& device) const;
  double RequestSeconds(const Link& link) const;

  /// What counts under the objective.
  template <typename... Where>
  double Seconds(const Where&... where) const {
    return goal == Objective::kRequest ? RequestSeconds(where...) : StepSeconds(where...);
  }
};

/// The model's sizes. Const after construction.
class ModelFootprint {
 public:
  /// `cpu` describes the kernels of the machine that will run it.
  explicit ModelFootprint(ModelConfig config, ComputeTraits cpu = CpuTraits(),
                          ComputeTraits cuda = CudaTraits());

  /// Of a placement of so many `stages` on devices of the cluster: they share the sequences. 0: as
  /// many stages as there are devices. Throws kDevice where the workload asks for what a device of
  /// the cluster has no kernels for.
  CostTable Costs(const Workload& workload, const Cluster& cluster, int64_t stages = 0) const;

  const ModelConfig& config() const { return config_; }
  const ComputeTraits& TraitsOf(const std::string& kind) const {
    return kind == "cuda" ? cuda_ : cpu_;
  }

 private:
  ModelConfig config_;
  ComputeTraits cpu_;
  ComputeTraits cuda_;
};

/// Throws kDevice: keys and values in int8 were asked for on a CUDA device.
[[noreturn]] void RefuseInt8Kv(const std::string& device);

/// Sequences that share a step: all of them for latency; for throughput one micro-batch, which is
/// the largest share when the engine spreads them over its stages.
int64_t StepSequences(const Workload& workload, int64_t stages);

}  // namespace xcomposer
