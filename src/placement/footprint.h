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

/// What the sizes of a placement depend on beside the workload.
struct StageSet {
  int64_t stages = 1;
  bool cpu = false;  ///< kinds of devices among them
  bool cuda = false;
  bool several_nodes = false;
};

/// Of stages on these devices, each of which has one.
StageSet StagesOn(const Cluster& cluster, const std::vector<size_t>& devices);

/// The model under a workload on a set of stages. Where they are of both kinds a part's bytes are
/// the larger of the two, so that it has one size wherever it is put.
struct CostTable {
  std::vector<ModuleFootprint> modules;  ///< in the order of computation
  int64_t first_modules = 0;             ///< of them, those that belong to the first stage
  int64_t last_modules = 0;              ///< and to the last
  StageOverhead cpu;
  StageOverhead cuda;
  int64_t step_sequences = 1;
  int64_t hop_bytes = 0;  ///< handed from stage to stage in one step

  const StageOverhead& OverheadOn(const std::string& kind) const {
    return kind == "cuda" ? cuda : cpu;
  }
};

/// The model's sizes. Const after construction.
class ModelFootprint {
 public:
  /// `cpu` describes the kernels of the machine that will run it.
  explicit ModelFootprint(ModelConfig config, ComputeTraits cpu = CpuTraits(),
                          ComputeTraits cuda = CudaTraits());

  CostTable Costs(const Workload& workload, const StageSet& set) const;
  /// With as many stages as the cluster may have.
  CostTable Costs(const Workload& workload, const Cluster& cluster) const;

  /// Bytes for hidden rows of other batches, of a stage of either kind together: all that makes
  /// sizes depend on the number of stages.
  int64_t WaitingBytes(const Workload& workload, const StageSet& set) const;

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

/// Throws kDevice where the workload asks for what a device of the cluster has no kernels for.
void CheckKernels(const Workload& workload, const Cluster& cluster);

/// As many stages as a cluster can have: which devices get none is not known before the plan.
int64_t MostStages(const ModelConfig& config, const Cluster& cluster);

/// Sequences that share a step: all of them for latency; for throughput they are spread over the
/// stages, as the engine does with answers.
int64_t StepSequences(const Workload& workload, int64_t stages);

/// Batches in which all sequences pass through the stages.
int64_t BatchesInFlight(const Workload& workload, int64_t stages);

}  // namespace xcomposer
