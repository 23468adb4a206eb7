#include "placement/plan_report.h"

#include <algorithm>

#include "base/check.h"
#include "config/weight_names.h"
#include "placement/device_map_json.h"
#include "placement/planner.h"

namespace xcomposer {
namespace {

constexpr size_t kMostHops = 16;  // devices up to which the table of hand-overs is written

void AddBytes(const ModuleFootprint& module, PlanBytes& bytes) {
  bytes.weights += module.weight_bytes;
  bytes.kv += module.kv_bytes;
  bytes.workspace += module.workspace_bytes;
  (module.name == "vit" ? bytes.vision : bytes.activations) += module.activation_bytes;
}

void AddModules(const PlanInput& input, Plan& plan) {
  for (const ModuleFootprint& module : input.costs.modules) {
    PlannedModule entry{module.name,
                        module.weight_bytes,
                        module.kv_bytes,
                        module.activation_bytes,
                        module.workspace_bytes,
                        {},
                        {}};
    for (size_t i = 0; i < input.cluster.devices.size(); ++i) {
      const ClusterDevice& device = input.cluster.devices[i];
      const std::string id = input.cluster.IdOf(i);
      entry.step_s.emplace_back(id, input.costs.StepSeconds(module, device));
      entry.request_s.emplace_back(id, input.costs.RequestSeconds(module, device));
    }
    plan.modules.push_back(std::move(entry));
    plan.model.weight_bytes += module.weight_bytes;
  }
}

void AddCandidates(const PlanInput& input, Plan& plan) {
  const Cluster& cluster = input.cluster;
  const size_t count = cluster.devices.size();
  for (size_t i = 0; i < count; ++i) {
    const ClusterDevice& device = cluster.devices[i];
    plan.candidates.push_back({cluster.IdOf(i), device.memory, device.budget,
                               input.costs.OverheadOn(device.kind).bytes()});
  }
  if (count > kMostHops) return;
  plan.hops.assign(count, std::vector<double>(count));
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < count; ++j) {
      if (i != j) {
        plan.hops[i][j] = input.costs.Seconds(cluster.LinkBetween(i, j));
      }
    }
  }
}

void Describe(const PlanInput& input, Plan& plan) {
  const ModelConfig& config = input.footprint.config();
  const Workload& workload = input.workload;
  plan.objective = ToString(workload.Goal());
  plan.model.kind = ToString(config.kind);
  plan.model.layers = config.layers;
  plan.model.hidden = config.hidden_size;
  plan.model.vocab = config.vocab_size;
  plan.model.parameters = ParameterCount(config);
  plan.workload = {workload.context,
                   workload.sequences,
                   workload.images,
                   workload.picture.width,
                   workload.picture.height,
                   workload.picture.rows,
                   workload.hd_num,
                   PromptRows(workload),
                   workload.prefill_chunk,
                   workload.answer_tokens,
                   input.costs.step_sequences,
                   ToString(workload.weights),
                   workload.int8_kv ? "int8" : "auto"};
  plan.notes = input.cluster.notes;
  if (workload.images * workload.picture.rows >= workload.context) {
    plan.notes.push_back(StrCat("the pictures alone have ", workload.images * workload.picture.rows,
                                " rows, the context ", workload.context));
  }
}

/// Chunks follow each other through the stages: the first one through all, the others behind the
/// slowest stage.
double PrefillSeconds(const PlanInput& input, const std::vector<PlacedBlock>& blocks) {
  const ModelConfig& config = input.footprint.config();
  const Work layer = PrefillWorkOfLayer(config, input.workload);
  const PromptChunks& chunks = input.costs.prompt;
  double through = 0;
  double slowest = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const ClusterDevice& device = input.cluster.devices[blocks[i].device];
    const int64_t layers =
        std::min(config.layers + 1, blocks[i].end) - std::max<int64_t>(1, blocks[i].begin);
    double seconds = static_cast<double>(std::max<int64_t>(0, layers)) *
                     layer.Seconds(device.bandwidth, device.flops) / chunks.count;
    if (i + 1 < blocks.size()) {
      seconds +=
          input.cluster.LinkBetween(blocks[i].device, blocks[i + 1].device).Seconds(chunks.bytes);
    }
    through += seconds;
    slowest = std::max(slowest, seconds);
  }
  return through + (chunks.count - 1) * slowest;
}

void Predict(const PlanInput& input, const std::vector<PlacedBlock>& blocks, Plan& plan) {
  double sum = 0;
  double slowest = 0;
  double request = 0;
  for (const PlannedDevice& device : plan.devices) {
    sum += device.step_s + device.hop_s;
    slowest = std::max(slowest, device.step_s + device.hop_s);
    request += device.request_s + device.request_hop_s;
  }
  switch (input.costs.goal) {
    case Objective::kThroughput:
      plan.value_s = slowest;
      break;
    case Objective::kLatency:
      plan.value_s = sum;
      break;
    case Objective::kRequest:
      plan.value_s = request;
      break;
  }
  const size_t first = blocks.front().device;
  const size_t last = blocks.back().device;
  const auto together = static_cast<double>(input.costs.step_sequences);
  // The new ids go back to the first stage.
  const double back =
      first == last ? 0 : input.cluster.LinkBetween(last, first).Seconds(together * 4);
  plan.predicted.decode_step_s = sum + back;
  // As many batches are in flight as there are stages, or as the sequences make.
  const auto sequences = static_cast<double>(input.workload.sequences);
  plan.predicted.tokens_per_s = std::min(together / slowest, sequences / (sum + back));
  plan.predicted.prefill_s = PrefillSeconds(input, blocks);
  const ClusterDevice& eye = input.cluster.devices[first];
  if (input.workload.images > 0) {
    plan.predicted.image_s =
        PictureWork(input.footprint.config(), input.workload).Seconds(eye.bandwidth, eye.flops);
  }
  PlanTimes& times = plan.predicted;
  times.request_s = static_cast<double>(input.workload.images) * times.image_s + times.prefill_s +
                    static_cast<double>(input.workload.answer_tokens) * times.decode_step_s;
}

}  // namespace

std::vector<UnitRange> UnitsOf(const CostTable& costs) {
  const auto first = static_cast<size_t>(costs.first_modules);
  const size_t last = costs.modules.size() - static_cast<size_t>(costs.last_modules);
  std::vector<UnitRange> units = {{0, first}};
  for (size_t m = first; m < last; ++m) units.push_back({m, m + 1});
  units.push_back({last, costs.modules.size()});
  return units;
}

PlannedDevice StageOf(const PlanInput& input, const PlacedBlock& block) {
  const ClusterDevice& device = input.cluster.devices[block.device];
  PlannedDevice stage;
  stage.device = input.cluster.IdOf(block.device);
  stage.kind = device.kind;
  stage.model = device.model;
  stage.memory = device.memory;
  stage.budget = device.budget;
  const StageOverhead& overhead = input.costs.OverheadOn(device.kind);
  stage.overhead = {overhead.runtime, overhead.activations, overhead.workspace};
  stage.bytes.overhead = overhead.bytes();
  const std::vector<UnitRange> units = UnitsOf(input.costs);
  for (int64_t unit = block.begin; unit < block.end; ++unit) {
    const UnitRange& range = units[static_cast<size_t>(unit)];
    for (size_t m = range.begin; m < range.end; ++m) {
      const ModuleFootprint& module = input.costs.modules[m];
      stage.parts.push_back(module.name);
      AddBytes(module, stage.bytes);
      stage.step_s += input.costs.StepSeconds(module, device);
      stage.request_s += input.costs.RequestSeconds(module, device);
    }
  }
  const auto layers = static_cast<int64_t>(units.size()) - 2;
  stage.first_layer = std::max<int64_t>(0, block.begin - 1);
  stage.last_layer = std::min(layers, block.end - 1) - 1;
  return stage;
}

size_t DeviceNamed(const Cluster& cluster, const std::string& name) {
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    const std::string id = cluster.IdOf(i);
    std::string with_colon = id;
    with_colon[with_colon.find('/')] = ':';
    const bool alone = cluster.nodes.size() == 1 && name == cluster.devices[i].name;
    if (name == id || name == with_colon || alone) return i;
  }
  std::string there;
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    there += StrCat(i == 0 ? "" : ", ", cluster.IdOf(i));
  }
  throw Error(ErrorKind::kDevice,
              StrCat("there is no device ", name, " in the cluster, which has ", there),
              {{"device", name}});
}

Plan Report(const PlanInput& input, const std::vector<PlacedBlock>& blocks) {
  Check(!blocks.empty(), "a placement without a block");
  Plan plan;
  Describe(input, plan);
  plan.fits = true;
  for (size_t i = 0; i < blocks.size(); ++i) {
    PlannedDevice stage = StageOf(input, blocks[i]);
    if (i + 1 < blocks.size()) {
      const Link link = input.cluster.LinkBetween(blocks[i].device, blocks[i + 1].device);
      stage.hop_s = input.costs.StepSeconds(link);
      stage.request_hop_s = input.costs.RequestSeconds(link);
    }
    if (stage.headroom() < 0) {
      plan.fits = false;
      plan.shortages.push_back({stage.device, stage.bytes.total(), stage.budget, stage.bytes});
    }
    plan.devices.push_back(std::move(stage));
  }
  AddModules(input, plan);
  AddCandidates(input, plan);
  Predict(input, blocks, plan);
  plan.device_map = ToHuggingFaceJson(DeviceMapOf(plan, input.cluster), input.footprint.config());
  return plan;
}

}  // namespace xcomposer
