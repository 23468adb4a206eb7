#include "placement/footprint.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "placement/device_map.h"

namespace xcomposer {
namespace {

std::string ModuleOf(const WeightSpec& spec) {
  switch (spec.part) {
    case Part::kVit:
      return "vit";
    case Part::kVisionProj:
      return "vision_proj";
    case Part::kSeparators:
      return spec.name;
    case Part::kTokEmbeddings:
      return "model.tok_embeddings";
    case Part::kLayer:
      return "model.layers." + std::to_string(spec.layer);
    case Part::kNorm:
      return "model.norm";
    case Part::kOutput:
      return "output";
  }
  return spec.name;
}

/// Beyond what the layers of any stage need, on one kind of device.
struct Extra {
  int64_t vision = 0;
  int64_t vision_workspace = 0;
  int64_t head = 0;
};

Extra ExtraOn(const ModelConfig& config, const Workload& workload, const ComputeTraits& traits) {
  Extra extra;
  const int64_t layers = LayerActivations(config, workload, traits);
  extra.vision = VisionCopies(config, workload.Unquantised());
  if (workload.images > 0) {
    const int64_t feature = FeatureBytes(config, workload.picture);
    const int64_t all = workload.sequences * workload.images * feature;
    // The last picture is encoded beside the features of all others; then layers run beside all.
    const int64_t encoding =
        all - feature + PictureActivations(config, workload.picture, traits) - layers;
    extra.vision += std::max(all, encoding);
    extra.vision_workspace = VisionWorkspace(config, workload, traits);
  }
  extra.head = std::max<int64_t>(0, HeadActivations(config, workload, traits) - layers) +
               KeptScores(config, workload, traits);
  return extra;
}

StageOverhead OverheadOf(const ModelConfig& config, const Workload& workload,
                         const ComputeTraits& traits, int64_t stages) {
  const int64_t activations =
      LayerActivations(config, workload, traits) + HandOverBytes(config, workload, traits, stages);
  return {traits.runtime, activations, LayerWorkspace(config, workload, traits)};
}

bool SeveralNodes(const Cluster& cluster) {
  return std::any_of(cluster.devices.begin(), cluster.devices.end(), [&](const auto& device) {
    return device.node != cluster.devices.front().node;
  });
}

/// As many as there may be: which devices get none is not known before the plan.
int64_t MostStages(const ModelConfig& config, const Cluster& cluster) {
  return std::min(static_cast<int64_t>(cluster.devices.size()), config.layers + 2);
}

}  // namespace

int64_t StepSequences(const Workload& workload, int64_t stages) {
  if (workload.Goal() != Objective::kThroughput) return workload.sequences;
  stages = std::max<int64_t>(1, stages);
  return (workload.sequences + stages - 1) / stages;
}

void RefuseInt8Kv(const std::string& device) {
  throw Error(ErrorKind::kDevice,
              StrCat("keys and values in int8 were asked for (--kv int8), and ", device,
                     " is a CUDA device: only the CPU has kernels for them; leave --kv out or use "
                     "CPUs only"),
              {{"device", device}});
}

double CostTable::StepSeconds(const ModuleFootprint& module, const ClusterDevice& device) const {
  return module.StepOn(device.kind).Seconds(device.bandwidth, device.flops);
}

double CostTable::StepSeconds(const Link& link) const {
  return link.Seconds(static_cast<double>(hop_bytes));
}

double CostTable::RequestSeconds(const ModuleFootprint& module, const ClusterDevice& device) const {
  const auto on_device = [&device](const Work& work) {
    return work.Seconds(device.bandwidth, device.flops);
  };
  return static_cast<double>(images) * on_device(module.picture) + on_device(module.prompt) +
         static_cast<double>(answer_tokens) * StepSeconds(module, device);
}

double CostTable::RequestSeconds(const Link& link) const {
  return prompt.count * link.Seconds(prompt.bytes) +
         static_cast<double>(answer_tokens) * StepSeconds(link);
}

ModelFootprint::ModelFootprint(ModelConfig config, ComputeTraits cpu, ComputeTraits cuda)
    : config_(std::move(config)), cpu_(cpu), cuda_(cuda) {}

CostTable ModelFootprint::Costs(const Workload& workload, const Cluster& cluster,
                                int64_t stages) const {
  for (size_t i = 0; workload.int8_kv && i < cluster.devices.size(); ++i) {
    if (cluster.devices[i].kind == "cuda") RefuseInt8Kv(cluster.IdOf(i));
  }
  std::map<std::string, int64_t> weights;
  for (const WeightSpec& spec : WeightTable(config_)) {
    weights[ModuleOf(spec)] +=
        WeightBytes(spec, workload.weights, workload.stored) + Bf12Reserve(spec, workload.weights);
  }
  CostTable costs;
  costs.first_modules = static_cast<int64_t>(FirstModules(config_).size());
  costs.last_modules = static_cast<int64_t>(LastModules().size());
  const int64_t most = MostStages(config_, cluster);
  costs.cpu = OverheadOf(config_, workload, cpu_, most);
  costs.cuda = OverheadOf(config_, workload, cuda_, most);
  costs.step_sequences = StepSequences(workload, stages > 0 ? stages : most);
  costs.hop_bytes = costs.step_sequences * config_.hidden_size * 4;
  costs.goal = workload.Goal();
  costs.images = workload.images;
  costs.answer_tokens = workload.answer_tokens;
  costs.prompt = ChunksOfPrompt(config_, workload);

  const auto has = [&](const char* kind) {
    return std::any_of(cluster.devices.begin(), cluster.devices.end(),
                       [&](const ClusterDevice& device) { return device.kind == kind; });
  };
  Extra extra;
  int64_t kv = 0;
  for (const char* kind : {"cpu", "cuda"}) {
    if (!has(kind)) continue;
    const ComputeTraits& traits = TraitsOf(kind);
    const Extra here = ExtraOn(config_, workload, traits);
    extra.vision = std::max(extra.vision, here.vision);
    extra.vision_workspace = std::max(extra.vision_workspace, here.vision_workspace);
    extra.head = std::max(extra.head, here.head);
    kv = std::max(kv, KvBytesOfLayer(config_, workload, traits));
  }
  const int64_t together = costs.step_sequences;
  const Work cpu_layer = DecodeWorkOfLayer(config_, workload, together, KvTypeOf(workload, cpu_));
  const Work cuda_layer = DecodeWorkOfLayer(config_, workload, together, KvTypeOf(workload, cuda_));
  const Work prompt_layer = PrefillWorkOfLayer(config_, workload);
  for (const std::string& name : ModulesOfStage({{{"cpu", 0, config_.layers}}}, config_, 0)) {
    ModuleFootprint module;
    module.name = name;
    module.weight_bytes = weights.at(name);
    if (name.rfind("model.layers.", 0) == 0) {
      module.kv_bytes = kv;
      module.cpu_step = cpu_layer;
      module.cuda_step = cuda_layer;
      module.prompt = prompt_layer;
    } else if (name == "vit") {
      module.activation_bytes = extra.vision;
      module.workspace_bytes = extra.vision_workspace;
      if (workload.images > 0) module.picture = PictureWork(config_, workload);
    } else if (name == "model.tok_embeddings") {
      if (SeveralNodes(cluster)) module.activation_bytes = ArrivingScores(config_, workload);
      module.cpu_step = module.cuda_step = DecodeWorkOfEmbeddings(config_, workload, together);
    } else if (name == "output") {
      module.activation_bytes = extra.head;
      module.cpu_step = module.cuda_step = DecodeWorkOfHead(config_, workload, together);
    }
    costs.modules.push_back(std::move(module));
  }
  return costs;
}

}  // namespace xcomposer
