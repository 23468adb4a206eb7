#include "api/load_plan.h"

#include <algorithm>
#include <string>
#include <utility>

#include "api/load_options.h"
#include "api/machine_cluster.h"
#include "api/picture_plan.h"
#include "api/plan_file.h"
#include "api/rank_run.h"
#include "base/check.h"
#include "placement/device_map_json.h"
#include "placement/plan_report.h"
#include "placement/planner.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kDefaultAnswerRows = 1024;      // the reference's max_new_tokens
constexpr int64_t kDefaultSequences = 4;          // of full length, where memory allows
constexpr int64_t kLeastPositions = 2048;         // a picture and a short answer; less is of no use
constexpr int kNoOwnDevice = 1000;                // numbers that no device of ours has
constexpr int64_t kAnyMemory = int64_t{1} << 60;  // of devices that are not ours to judge
constexpr int64_t kMostCachedRows = 16384;        // of pictures that nobody uses at the moment

bool HasMapFile(const EngineOptions& options) {
  return !options.device_map.empty() && options.device_map != "auto";
}

/// Plans on this machine, either freely over all named devices or for a fixed map.
class Loader {
 public:
  Loader(const EngineOptions& options, const ModelConfig& config)
      : footprint_(config, HostTraits(options.threads)), names_(options.devices) {
    Require(HasMapFile(options) || !names_.empty(), ErrorKind::kPlan, "no device was named");
    if (HasMapFile(options)) {
      map_ = FromPlanFile(options.device_map, [&config](const std::string& text) {
        return FromHuggingFaceJson(text, config);
      });
      names_.clear();
      for (const StagePlace& stage : map_->stages) names_.push_back(stage.device);
      names_ =
          DevicesOfOneProcess(names_, StrCat("the device map '", options.device_map, "' names"));
    }
    cluster_ = MachineCluster(names_);
    NameStages(config);
  }

  /// All stages of a run over several processes, in the cluster's order.
  Loader(const EngineOptions& options, const ModelConfig& config, Cluster cluster)
      : footprint_(config, HostTraits(options.threads)),
        cluster_(std::move(cluster)),
        rules_{.given_order = true, .use_all = true} {
    for (size_t i = 0; i < cluster_.devices.size(); ++i) names_.push_back(cluster_.IdOf(i));
    NameStages(config);
  }

  Loader(const EngineOptions& options, const ModelConfig& config, const StagesHere& here)
      : footprint_(config, HostTraits(options.threads)), map_(here.map) {
    std::vector<std::string> own;
    for (const StagePlace& stage : here.map.stages) names_.push_back(stage.device);
    for (int i = here.first; i < here.end; ++i) own.push_back(names_[static_cast<size_t>(i)]);
    cluster_ = MachineCluster(own);
    const std::vector<ClusterDevice> devices = std::move(cluster_.devices);
    cluster_.devices.clear();
    cluster_.nodes.push_back({"elsewhere", kAssumedNodeLink});
    for (int i = 0; i < static_cast<int>(names_.size()); ++i) {
      const bool is_here = i >= here.first && i < here.end;
      ClusterDevice device = devices[static_cast<size_t>(is_here ? i - here.first : 0)];
      if (!is_here) {
        device.node = 1;
        device.name = StrCat("cpu:", kNoOwnDevice + i);
        device.memory = device.budget = kAnyMemory;
      } else if (static_cast<size_t>(i) < here.budgets.size()) {
        device.budget = std::min(device.budget, here.budgets[static_cast<size_t>(i)]);
      }
      cluster_.devices.push_back(std::move(device));
    }
    NameStages(config);
  }

  Plan For(const Workload& workload) const {
    if (map_) return DeviceMapPlanner::Measure(footprint_, cluster_, workload, *map_);
    return DeviceMapPlanner::Plan(footprint_, cluster_, workload, rules_);
  }

  /// The stages with the devices called as the caller called them.
  DeviceMap MapOf(const Plan& plan) const {
    DeviceMap map = DeviceMapOf(plan, cluster_);
    for (StagePlace& stage : map.stages) {
      stage.device = names_[DeviceNamed(cluster_, stage.device)];
    }
    return map;
  }

  const ModelFootprint& footprint() const { return footprint_; }

  bool HasOnlyCpus() const {
    return std::ranges::all_of(cluster_.devices,
                               [](const ClusterDevice& device) { return device.kind == "cpu"; });
  }

 private:
  /// Gives the stages of a map the names that the cluster has for their devices.
  void NameStages(const ModelConfig& config) {
    std::vector<std::string> unique;
    for (size_t i = 0; i < cluster_.devices.size(); ++i) {
      unique.push_back(cluster_.nodes.size() == 1 ? cluster_.devices[i].name : cluster_.IdOf(i));
    }
    if (map_) {
      for (size_t i = 0; i < unique.size(); ++i) map_->stages[i].device = unique[i];
    } else if (static_cast<int64_t>(unique.size()) > config.layers + 2) {
      map_ = EvenDeviceMap(config, unique);  // more than the model has parts to place
    }
  }

  ModelFootprint footprint_;
  std::vector<std::string> names_;
  Cluster cluster_;
  std::optional<DeviceMap> map_;
  PlacementRules rules_{.use_all = true};
};

std::string Megabytes(int64_t bytes) { return std::to_string(bytes / 1'000'000) + " MB"; }

[[noreturn]] void Refuse(const Plan& plan) {
  const PlanShortage& shortage = plan.shortages.front();
  const PlanBytes& bytes = shortage.by_cause;
  throw Error(
      ErrorKind::kCapacity,
      StrCat("the model does not fit: ", shortage.device, " needs ", Megabytes(shortage.needed),
             " for one sequence of ", kLeastPositions, " positions (weights ",
             Megabytes(bytes.weights), ", KV cache ", Megabytes(bytes.kv), ", vision ",
             Megabytes(bytes.vision), ", all else ",
             Megabytes(bytes.activations + bytes.workspace + bytes.overhead), ") and has ",
             Megabytes(shortage.available), ": ", Megabytes(shortage.missing()),
             " short. Free memory, add a device, or set the number of positions (kv_tokens) "
             "yourself; `xcomposer plan` shows what would fit"),
      {{"device", shortage.device},
       {"needed", std::to_string(shortage.needed)},
       {"available", std::to_string(shortage.available)}});
}

/// The workload that fits: full length for several, full length for one, as long as there is room.
std::pair<Workload, Plan> LargestThatFits(const Loader& loader, Workload workload) {
  Plan plan = loader.For(workload);
  if (plan.fits) return {workload, std::move(plan)};
  workload.sequences = 1;
  const int64_t full = workload.context;
  int64_t good = std::min(kLeastPositions, full);
  int64_t bad = full + 1;
  workload.context = good;
  plan = loader.For(workload);
  if (!plan.fits) Refuse(plan);
  while (bad - good > kKvBlock) {
    workload.context = good + (bad - good) / 2;
    Plan longer = loader.For(workload);
    if (longer.fits) {
      good = workload.context;
      plan = std::move(longer);
    } else {
      bad = workload.context;
    }
  }
  workload.context = good;
  return {workload, std::move(plan)};
}

void CheckKvTokens(const EngineOptions& options) {
  Require(options.kv_tokens >= 0, ErrorKind::kUsage, "kv_tokens is ", options.kv_tokens,
          "; expected a positive number of positions, or 0 for the default");
}

/// What the engine is made for, and its plan.
std::pair<Workload, Plan> ChooseWorkload(const Loader& loader, const EngineOptions& options,
                                         const ModelConfig& config, const StoredWeights& stored) {
  Workload workload;
  workload.context = config.max_length + kDefaultAnswerRows;
  workload.sequences = kDefaultSequences;
  workload.hd_num = DefaultHdNum(config);
  workload.picture = ShapeOf(config, {.hd_num = workload.hd_num});
  if (options.prefill_chunk > 0) workload.prefill_chunk = options.prefill_chunk;
  workload.weights = LoadedType(options, stored, loader.HasOnlyCpus());
  workload.stored = UnquantisedType(options, stored);
  workload.int8_kv = options.kv_precision == KvPrecision::kInt8;
  workload.objective = ParseObjective(options.objective);
  if (options.kv_tokens == 0) return LargestThatFits(loader, workload);
  workload.context = options.kv_tokens;
  workload.sequences = 1;
  if (!workload.objective) workload.objective = Objective::kThroughput;
  return {workload, loader.For(workload)};
}

LoadPlan PlanWith(const Loader& loader, const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored) {
  const auto [workload, plan] = ChooseWorkload(loader, options, config, stored);
  LoadPlan load;
  load.map = loader.MapOf(plan);
  for (const PlannedDevice& device : plan.devices) {
    // What every stage needs counts as its activations and workspace here: it is measured with
    // them.
    PlanBytes bytes = device.bytes;
    bytes.activations += device.overhead.activations;
    bytes.workspace += device.overhead.workspace;
    bytes.overhead -= device.overhead.activations + device.overhead.workspace;
    load.planned.push_back(bytes);
  }
  load.kv_positions = workload.sequences * workload.context;
  const int64_t planned_rows = workload.sequences * workload.picture.rows;
  load.feature_rows = std::max(planned_rows, kMostCachedRows);
  if (!plan.fits) return load;
  for (const PlannedDevice& device : plan.devices) load.budgets.push_back(device.budget);

  const PlannedDevice& first = plan.devices.front();
  PictureBudget budget;
  budget.config = config;
  budget.traits = loader.footprint().TraitsOf(first.kind);
  budget.room = first.headroom() + first.bytes.vision;
  budget.layer_activations = LayerActivations(config, workload, budget.traits);
  // Features that are kept for later must leave room for encoding the next picture.
  const int64_t encoding = PictureActivations(config, workload.picture, budget.traits) -
                           FeatureBytes(config, workload.picture) - budget.layer_activations;
  const int64_t rows = (budget.room - std::max<int64_t>(0, encoding)) / (config.hidden_size * 4);
  load.feature_rows = std::clamp(rows, planned_rows, std::max(planned_rows, kMostCachedRows));
  load.pictures = std::move(budget);
  return load;
}

}  // namespace

LoadPlan PlanLoad(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored) {
  CheckKvTokens(options);
  return PlanWith(Loader(options, config), options, config, stored);
}

DeviceMap PlanRun(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored, const Cluster& cluster) {
  CheckKvTokens(options);
  const Loader loader(options, config, cluster);
  try {
    return loader.MapOf(ChooseWorkload(loader, options, config, stored).second);
  } catch (const Error& error) {
    const auto device = error.where().find("device");
    if (device == error.where().end()) throw;
    throw error.With("rank", device->second.substr(0, device->second.find('/')));
  }
}

LoadPlan PlanLoad(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored, const StagesHere& here) {
  CheckKvTokens(options);
  return PlanWith(Loader(options, config, here), options, config, stored);
}

}  // namespace xcomposer::api
