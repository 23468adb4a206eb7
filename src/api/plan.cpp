#include "xcomposer/plan.h"

#include <algorithm>
#include <cmath>

#include "api/load_options.h"
#include "api/machine_cluster.h"
#include "api/picture_plan.h"
#include "api/plan_file.h"
#include "api/plan_model.h"
#include "api/rank_cluster.h"
#include "api/rank_run.h"
#include "base/check.h"
#include "pipeline/stage_device.h"
#include "placement/alternatives.h"
#include "placement/cluster_json.h"
#include "placement/device_map_json.h"
#include "placement/planner.h"
#include "workers/layout.h"

namespace xcomposer {
namespace {

// Together they keep every product of the formula inside of 64 bits, for any model.
constexpr int64_t kMostPositions = int64_t{1} << 27;
constexpr int64_t kMostPictures = int64_t{1} << 16;
constexpr int64_t kMostPixels = int64_t{1} << 20;
constexpr int64_t kMostChunk = int64_t{1} << 20;
constexpr int64_t kMostExtraDevices = 512;
constexpr int64_t kAnswer = 1024;  // new tokens of the published chat

void InRange(int64_t value, int64_t low, int64_t high, const char* what) {
  Require(value >= low && value <= high, ErrorKind::kUsage, what, " is ", value, ", expected ", low,
          " to ", high);
}

/// This machine under the names of ranks: what a run of that many processes here would have.
Cluster ClusterOfRanksHere(const std::vector<std::string>& names) {
  const std::vector<api::RankedDevice> devices = api::RankDevices(names);
  std::vector<int> ranks;
  for (const api::RankedDevice& device : devices) ranks.push_back(device.rank);
  const StageLayout layout(ranks, *std::max_element(ranks.begin(), ranks.end()) + 1);
  std::vector<Cluster> own;
  for (int rank = 0; rank < layout.world_size(); ++rank) {
    own.push_back(api::OwnDevices(devices, rank));
  }
  Cluster cluster = api::ClusterOfRun(devices, own);
  for (size_t rank = 0; rank < own.size(); ++rank) {
    for (const std::string& note : own[rank].notes) {
      cluster.notes.push_back(StrCat(rank, "/", note));
    }
  }
  return cluster;
}

bool NamesRanks(const PlanOptions& options) {
  return std::any_of(options.devices.begin(), options.devices.end(), api::NamesNode);
}

Cluster DescribedCluster(const PlanOptions& options) {
  Require(options.cluster.empty() || options.devices.empty(), ErrorKind::kUsage,
          "a cluster file and a list of devices exclude each other");
  InRange(options.extra_devices, 0, kMostExtraDevices, "the number of extra devices");
  if (!options.cluster.empty()) return api::FromPlanFile(options.cluster, ParseCluster);
  if (NamesRanks(options)) return ClusterOfRanksHere(options.devices);
  return api::MachineCluster(options.devices);
}

/// The devices of this machine with less memory. Their budgets are what is free now, and an
/// alternative that fills them to the last bytes is refused if any other process has grown when it
/// is tried. A small machine's processes come and go by hundreds of MB, a large one's by a share.
Cluster AMomentLater(Cluster cluster) {
  constexpr int64_t kLeastSlack = int64_t{512} << 20;
  for (ClusterDevice& device : cluster.devices) {
    const int64_t slack = std::max(kLeastSlack, device.budget / 100 * 3);
    device.budget = std::max<int64_t>(0, device.budget - slack);
  }
  return cluster;
}

Cluster WithLimits(Cluster cluster, const PlanOptions& options) {
  if (!options.max_memory.empty()) {
    if (options.max_memory.find('{') != std::string::npos) {
      ApplyMaxMemory(options.max_memory, cluster);
    } else {
      api::FromPlanFile(options.max_memory,
                        [&cluster](const std::string& text) { ApplyMaxMemory(text, cluster); });
    }
  }
  return WithExtraDevices(cluster, options.extra_devices);
}

Workload WorkloadFor(const PlanOptions& options, const ModelConfig& config) {
  Workload workload;
  workload.sequences = options.sequences;
  workload.context = options.context.value_or(config.max_length + kAnswer);
  workload.images = options.images;
  InRange(workload.sequences, 1, kMostPictures, "the number of sequences");
  InRange(workload.context, 1, kMostPositions / workload.sequences,
          "the context (of that many sequences)");
  InRange(workload.images, 0, kMostPictures / workload.sequences,
          "the number of images (of that many sequences)");
  InRange(options.prefill_chunk, 0, kMostChunk, "the prefill chunk");
  if (options.prefill_chunk > 0) workload.prefill_chunk = options.prefill_chunk;
  if (config.vision.tiled) workload.hd_num = options.hd_num.value_or(api::DefaultHdNum(config));
  const bool no_size = options.image_width == 0 && options.image_height == 0;
  if (!no_size) {
    InRange(options.image_width, 1, kMostPixels, "the image width");
    InRange(options.image_height, 1, kMostPixels, "the image height");
  }
  InRange(options.answer_tokens, 0, kMostPositions, "the number of answer tokens");
  if (options.answer_tokens > 0) workload.answer_tokens = options.answer_tokens;
  workload.objective = ParseObjective(options.objective);
  Require(options.kv == "auto" || options.kv == "int8", ErrorKind::kUsage, "kv is '", options.kv,
          "', expected auto or int8");
  workload.int8_kv = options.kv == "int8";
  return workload;
}

PlacementRules RulesFor(const PlanOptions& options) {
  Require(options.order == "any" || options.order == "given", ErrorKind::kUsage, "the order is '",
          options.order, "', expected any or given");
  // Who names devices of this machine means all of them, as for the engine; and ranks keep their
  // order.
  return {.given_order = options.order == "given" || NamesRanks(options),
          .use_all = !options.devices.empty()};
}

DeviceMap ReadMap(const PlanOptions& options, const ModelConfig& config, const Cluster& cluster) {
  std::vector<std::string> known;
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    known.push_back(cluster.nodes.size() == 1 ? cluster.devices[i].name : cluster.IdOf(i));
  }
  return api::FromPlanFile(options.device_map, [&](const std::string& text) {
    return FromHuggingFaceJson(text, config, known);
  });
}

bool HasMap(const PlanOptions& options) {
  return !options.device_map.empty() && options.device_map != "auto";
}

/// Why the engine cannot keep the checkpoint in this format, or nothing where it can.
std::optional<Error> WhyNot(WeightType format, const api::PlanSubject& subject) {
  try {
    if (IsQuantised(format)) api::CheckQuantisable(subject.config);
    if (format == WeightType::kBf12) api::CheckPackable(subject.config, subject.stored.linears);
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  }
}

/// The formats that were asked for and that the engine can make of the checkpoint. Throws where
/// there is none.
std::vector<WeightType> FormatsFor(const PlanOptions& options, const api::PlanSubject& subject,
                                   bool only_cpus) {
  Require(!options.weights.empty(), ErrorKind::kUsage, "no format of the weights was given");
  std::optional<Error> refused;
  std::vector<WeightType> formats;
  for (const std::string& name : options.weights) {
    if (name == "auto") {
      formats.push_back(api::LoadedType({}, subject.stored, only_cpus));
      continue;
    }
    const WeightType format = ParseWeightType(name);
    if (auto reason = WhyNot(format, subject)) {
      refused = std::move(reason);
    } else {
      formats.push_back(format);
    }
  }
  if (formats.empty()) throw Error(*refused);
  return formats;
}

bool HasGpus(const Cluster& cluster) {
  return std::any_of(cluster.devices.begin(), cluster.devices.end(),
                     [](const ClusterDevice& device) { return device.kind == "cuda"; });
}

/// A placement of the same that answers a request sooner, where it is worth it: under other
/// objectives the time of pictures and prompts does not count. Whoever asks for throughput knows
/// that single requests wait for it, but hardly that pictures go to a processor beside a GPU.
void NoteFasterRequest(const PlanQuestion& question, Plan& plan) {
  constexpr double kWorthSaying = 0.9;
  const bool pictures_on_cpu = HasGpus(question.cluster) && plan.devices.front().kind != "cuda";
  if (plan.objective == "throughput" && !pictures_on_cpu) return;
  Workload workload = question.workload;
  workload.objective = Objective::kRequest;
  const Plan other =
      DeviceMapPlanner::Plan(*question.footprint, question.cluster, workload, question.rules);
  const PlanTimes& now = plan.predicted;
  const PlanTimes& then = other.predicted;
  if (!other.fits || then.request_s > kWorthSaying * now.request_s) return;
  const auto tenths = [](double value) {
    const auto rounded = std::lround(10 * value);
    return StrCat(rounded / 10, ".", rounded % 10);
  };
  plan.notes.push_back(StrCat("with --objective request a request takes ", tenths(then.request_s),
                              " s instead of ", tenths(now.request_s), " (pictures, prompt and ",
                              plan.workload.answer_tokens, " new tokens), and a token ",
                              tenths(1e3 * then.decode_step_s), " ms instead of ",
                              tenths(1e3 * now.decode_step_s)));
}

/// What the CUDA kernels do not compute yet, where the plan counts on it: its sizes hold, but the
/// engine refuses to load it.
void NoteWhatGpusRefuse(const ModelConfig& config, const Workload& workload, Plan& plan) {
  for (const PlannedDevice& device : plan.devices) {
    if (device.kind != "cuda") continue;
    std::string refused;
    if (IsPacked(workload.weights) || workload.weights == WeightType::kFloat32) {
      refused = StrCat("there are no CUDA kernels for ", ToString(workload.weights), " weights");
    }
    try {
      CheckModelOn("cuda:0", config, workload.int8_kv);
    } catch (const Error& error) {
      refused = error.what();
    }
    if (refused.empty()) continue;
    plan.notes.push_back(
        StrCat("the engine will refuse to load this on ", device.device, ": ", refused));
    return;
  }
}

/// The same for one format of the weights.
Plan PlanFormat(const PlanOptions& options, const PlanQuestion& question) {
  if (HasMap(options)) {
    const DeviceMap map = ReadMap(options, question.footprint->config(), question.cluster);
    return DeviceMapPlanner::Measure(*question.footprint, question.cluster, question.workload, map);
  }
  return DeviceMapPlanner::Plan(*question.footprint, question.cluster, question.workload,
                                question.rules);
}

}  // namespace

Plan MakePlan(const PlanOptions& options) {
  const api::PlanSubject subject = api::ReadPlanSubject(options.model, options.kind);
  const ModelConfig& config = subject.config;
  const ModelFootprint footprint(config,
                                 options.cluster.empty() ? api::HostTraits(0) : CpuTraits());
  PlanQuestion question;
  question.footprint = &footprint;
  const Cluster described = DescribedCluster(options);
  question.cluster = WithLimits(described, options);
  if (options.cluster.empty()) question.later = WithLimits(AMomentLater(described), options);
  question.workload = WorkloadFor(options, config);
  question.rules = RulesFor(options);
  question.extra_devices = options.extra_devices;
  question.hand_made_map = HasMap(options);
  const bool gpus = HasGpus(question.cluster);
  question.can_pack = !gpus && !WhyNot(WeightType::kBf12, subject);
  question.can_quantise = !gpus && !WhyNot(WeightType::kInt8, subject);
  question.fixed_order = NamesRanks(options);
  question.picture = [&](int64_t images, int64_t hd_num) {
    return api::ShapeOf(config, {options.image_width, options.image_height, images, hd_num});
  };
  question.workload.picture = question.picture(question.workload.images, question.workload.hd_num);

  Plan plan;
  question.workload.stored = subject.stored.type;
  for (const WeightType format : FormatsFor(options, subject, !gpus)) {
    question.workload.weights = format;
    plan = PlanFormat(options, question);
    if (plan.fits) break;
  }
  if (plan.fits) {
    if (!HasMap(options)) NoteFasterRequest(question, plan);
    NoteWhatGpusRefuse(config, question.workload, plan);
  }
  if (!plan.fits) {
    // Of several formats the last one was looked at; the command must not take an earlier one.
    if (options.weights.size() > 1) question.pinned = {"--weights", plan.workload.weights};
    plan.alternatives = FindAlternatives(question);
  }
  plan.notes.insert(plan.notes.begin(), config.notes.begin(), config.notes.end());
  return plan;
}

}  // namespace xcomposer
