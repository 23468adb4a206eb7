#include "placement/alternatives.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr int64_t kContextStep = 256;
constexpr int64_t kLeastContext = 256;
constexpr int64_t kLeastChunk = 64;
constexpr int64_t kMostExtraDevices = 8;

/// A question after some changes, and how a user asks for it.
struct Change {
  PlanQuestion question;
  std::string text;
  std::vector<std::string> arguments;

  void Add(const std::string& what, const std::string& option, const std::string& value) {
    text += (text.empty() ? "" : ", ") + what;
    arguments.insert(arguments.end(), {option, value});
  }
};

bool Fits(const PlanQuestion& question) {
  const Cluster& cluster = question.later ? *question.later : question.cluster;
  return DeviceMapPlanner::Fits(*question.footprint, cluster, question.workload, question.rules);
}

/// The largest of low .. high (in steps) for which the question fits, where smaller needs less.
std::optional<int64_t> Largest(int64_t low, int64_t high, int64_t step,
                               const std::function<PlanQuestion(int64_t)>& with) {
  if (high < low || !Fits(with(low))) return std::nullopt;
  int64_t good = 0;  // in steps above low
  int64_t bad = (high - low) / step + 1;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (Fits(with(low + middle * step)) ? good : bad) = middle;
  }
  return low + good * step;
}

std::string FromTo(const std::string& name, int64_t from, int64_t to) {
  return StrCat(name, " ", from, " -> ", to);
}

using Maker = std::optional<Change> (*)(const Change&);

/// A number of the workload made as large as fits.
std::optional<Change> Reduced(const Change& before, const char* name, const char* option,
                              int64_t Workload::*field, int64_t least, int64_t step) {
  const int64_t now = before.question.workload.*field;
  const auto with = [&](int64_t value) {
    PlanQuestion question = before.question;
    Workload& workload = question.workload;
    workload.*field = value;
    workload.picture = question.picture(workload.images, workload.hd_num);
    return question;
  };
  const auto value = Largest(least, now - 1, step, with);
  if (!value) return std::nullopt;
  Change change = before;
  change.question = with(*value);
  change.Add(FromTo(name, now, *value), option, std::to_string(*value));
  return change;
}

std::optional<Change> ShorterContext(const Change& before) {
  const Workload& workload = before.question.workload;
  const int64_t pictures = workload.images * workload.picture.rows;
  // What is left must hold the pictures and a question.
  const int64_t least = std::max(
      kLeastContext, (pictures + kContextStep - 1) / kContextStep * kContextStep + kContextStep);
  return Reduced(before, "context", "--context", &Workload::context, least, kContextStep);
}

/// The objective follows from the number of sequences unless it was asked for.
std::optional<Change> FewerSequences(const Change& before) {
  return Reduced(before, "sequences", "--sequences", &Workload::sequences, 1, 1);
}

std::optional<Change> FewerImages(const Change& before) {
  return Reduced(before, "images", "--images", &Workload::images, 0, 1);
}

std::optional<Change> SmallerChunk(const Change& before) {
  return Reduced(before, "prefill chunk", "--prefill-chunk", &Workload::prefill_chunk, kLeastChunk,
                 kLeastChunk);
}

std::optional<Change> FewerTiles(const Change& before) {
  const PlanQuestion& asked = before.question;
  if (asked.workload.hd_num == 0 || asked.workload.images == 0) return std::nullopt;
  const auto with = [&](int64_t hd_num) {
    PlanQuestion question = asked;
    question.workload.hd_num = hd_num;
    question.workload.picture = asked.picture(asked.workload.images, hd_num);
    return question;
  };
  const auto value = Largest(1, asked.workload.hd_num - 1, 1, with);
  if (!value) return std::nullopt;
  Change change = before;
  change.question = with(*value);
  change.Add(FromTo("hd_num", asked.workload.hd_num, *value), "--hd-num", std::to_string(*value));
  return change;
}

int64_t BitsOf(WeightType format) {
  switch (format) {
    case WeightType::kFloat32:
      return 32;
    case WeightType::kFloat16:
    case WeightType::kBFloat16:
      return 16;
    case WeightType::kBf12:
      return 12;
    case WeightType::kInt8:
      return 8;
    case WeightType::kInt4:
      return 4;
  }
  return 16;
}

std::optional<Change> Weights(const Change& before, WeightType format) {
  const WeightType now = before.question.workload.weights;
  if (BitsOf(format) >= BitsOf(now)) return std::nullopt;
  if (IsQuantised(format) && !before.question.can_quantise) return std::nullopt;
  if (format == WeightType::kBf12 && !before.question.can_pack) return std::nullopt;
  Change change = before;
  change.question.workload.weights = format;
  change.Add(StrCat("weights ", ToString(now), " -> ", ToString(format)), "--weights",
             ToString(format));
  return change;
}

std::optional<Change> HalfWeights(const Change& before) {
  return Weights(before, WeightType::kFloat16);
}
std::optional<Change> Bf12Weights(const Change& before) {
  return Weights(before, WeightType::kBf12);
}
std::optional<Change> Int8Weights(const Change& before) {
  return Weights(before, WeightType::kInt8);
}
std::optional<Change> Int4Weights(const Change& before) {
  return Weights(before, WeightType::kInt4);
}

/// Where there are only CPUs: no other device has kernels for it.
std::optional<Change> Int8Kv(const Change& before) {
  const PlanQuestion& asked = before.question;
  const auto& devices = asked.cluster.devices;
  const bool cpus = std::all_of(devices.begin(), devices.end(),
                                [](const ClusterDevice& device) { return device.kind == "cpu"; });
  if (asked.workload.int8_kv || !cpus) return std::nullopt;
  Change change = before;
  change.question.workload.int8_kv = true;
  change.Add("KV cache fp32 -> int8", "--kv", "int8");
  return change;
}

std::optional<Change> OtherOrder(const Change& before) {
  if (!before.question.rules.given_order || before.question.fixed_order) return std::nullopt;
  Change change = before;
  change.question.rules.given_order = false;
  change.Add("order given -> any", "--order", "any");
  return change;
}

std::optional<Change> MoreDevices(const Change& before) {
  const int64_t asked = before.question.extra_devices;
  const auto devices = static_cast<int64_t>(before.question.cluster.devices.size());
  // Where every device gets a stage there can be no more of them than there are units.
  const int64_t units = before.question.footprint->config().layers + 2;
  const int64_t most = before.question.rules.use_all ? units - devices : kMostExtraDevices;
  for (int64_t more = 1; more <= std::min(most, kMostExtraDevices); ++more) {
    PlanQuestion question = before.question;
    question.cluster = WithExtraDevices(question.cluster, more);
    if (question.later) question.later = WithExtraDevices(*question.later, more);
    question.extra_devices = asked + more;
    if (!Fits(question)) continue;
    Change change = before;
    change.question = std::move(question);
    change.Add(more == 1 ? "one more device" : StrCat(more, " more devices"), "--extra-devices",
               std::to_string(asked + more));
    return change;
  }
  return std::nullopt;
}

/// Plans the change and keeps it where that fits.
bool Keep(const std::optional<Change>& change, std::vector<PlanAlternative>& kept) {
  if (!change || !Fits(change->question)) return false;
  const PlanQuestion& question = change->question;
  Plan plan = DeviceMapPlanner::Plan(*question.footprint, question.cluster, question.workload,
                                     question.rules);
  if (!plan.fits) return false;
  kept.push_back({change->text, change->arguments, std::move(plan.devices)});
  return true;
}

/// Everything made small, for questions that no single change answers: step by step until it fits.
/// Devices are added where nothing else helps, `with_devices`.
void KeepCombined(const Change& asked, bool with_devices, std::vector<PlanAlternative>& kept) {
  const auto more = [&](const Change& before) {
    return with_devices && Keep(MoreDevices(before), kept);
  };
  const auto least = [](const Change& before, const char* name, const char* option,
                        int64_t Workload::*field, int64_t value) {
    Change change = before;
    const int64_t now = change.question.workload.*field;
    if (now <= value) return change;
    change.question.workload.*field = value;
    change.Add(FromTo(name, now, value), option, std::to_string(value));
    return change;
  };
  for (const Maker smaller : {&HalfWeights, &Bf12Weights, &Int8Weights, &Int4Weights}) {
    const std::optional<Change> weights = smaller(asked);
    if (!weights) continue;
    for (const Maker next : {&Int8Kv, &ShorterContext, &FewerTiles, &FewerSequences}) {
      if (Keep(next(*weights), kept)) return;
    }
    if (more(*weights)) return;
    const Change one = least(*weights, "sequences", "--sequences", &Workload::sequences, 1);
    for (const Maker next : {&ShorterContext, &FewerTiles}) {
      if (Keep(next(one), kept)) return;
    }
    const Change no_picture = least(one, "images", "--images", &Workload::images, 0);
    const Change crumbs = least(no_picture, "prefill chunk", "--prefill-chunk",
                                &Workload::prefill_chunk, kLeastChunk);
    if (Keep(ShorterContext(crumbs), kept) || more(crumbs)) return;
  }
  const Change one = least(asked, "sequences", "--sequences", &Workload::sequences, 1);
  const Change no_picture = least(one, "images", "--images", &Workload::images, 0);
  if (Keep(ShorterContext(one), kept) || Keep(ShorterContext(no_picture), kept)) return;
  more(no_picture);
}

}  // namespace

Cluster WithExtraDevices(const Cluster& cluster, int64_t count) {
  Cluster larger = cluster;
  if (cluster.devices.empty()) return larger;
  const auto largest = std::max_element(
      cluster.devices.begin(), cluster.devices.end(),
      [](const ClusterDevice& a, const ClusterDevice& b) { return a.budget < b.budget; });
  for (int64_t i = 1; i <= count; ++i) {
    ClusterDevice device = *largest;
    const auto taken = [&] {
      return std::any_of(larger.devices.begin(), larger.devices.end(),
                         [&](const ClusterDevice& other) {
                           return other.node == device.node && other.name == device.name;
                         });
    };
    const std::string kind = device.kind;
    for (int64_t number = 0; taken(); ++number) device.name = StrCat(kind, ":", number);
    larger.devices.push_back(device);
  }
  return larger;
}

std::vector<PlanAlternative> FindAlternatives(const PlanQuestion& question) {
  std::vector<PlanAlternative> kept;
  Change asked{question, "", question.pinned};
  if (question.hand_made_map) {
    // Every alternative is planned anew; on its own where that is all that is needed.
    asked.Add("hand-made map -> planned", "--device-map", "auto");
    asked.question.hand_made_map = false;
    Keep(asked, kept);
  }
  for (const Maker maker :
       {&OtherOrder, &Bf12Weights, &ShorterContext, &FewerTiles, &FewerSequences, &FewerImages,
        &SmallerChunk, &Int8Kv, &HalfWeights, &Int8Weights, &Int4Weights}) {
    if (Fits(asked.question)) return kept;
    Keep(maker(asked), kept);
  }
  const bool without_devices = !kept.empty();
  const bool by_devices = Keep(MoreDevices(asked), kept);
  if (!without_devices) KeepCombined(asked, !by_devices, kept);
  return kept;
}

}  // namespace xcomposer
