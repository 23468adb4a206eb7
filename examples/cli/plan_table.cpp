#include "plan_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace xcomposer::cli {
namespace {

constexpr int kBarWidth = 48;

struct Cause {
  const char* name;
  char letter;
  int64_t bytes;
};

/// What the runtime, activations and workspace of every stage are is told apart from the rest of
/// the overhead here, since people ask what their memory is for.
std::array<Cause, 6> Causes(const PlanBytes& bytes, const PlanOverhead& overhead) {
  return {{{"weights", 'W', bytes.weights},
           {"kv", 'K', bytes.kv},
           {"activations", 'A', bytes.activations + overhead.activations},
           {"vision", 'V', bytes.vision},
           {"workspace", 'S', bytes.workspace + overhead.workspace},
           {"runtime", 'R', overhead.runtime}}};
}

template <typename... Values>
std::string Format(const char* format, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

std::string Padded(const std::string& text, size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 0, ' ');
}

std::string Seconds(double seconds) {
  if (seconds < 1e-3) return Format("%.0f us", seconds * 1e6);
  if (seconds < 1) return Format("%.2f ms", seconds * 1e3);
  return Format("%.2f s", seconds);
}

/// One letter a share of the budget, by cause; dots are free. The sum is rounded, not each part.
std::string Bar(const PlannedDevice& device) {
  std::string bar;
  double sum = 0;
  const double budget = static_cast<double>(std::max<int64_t>(1, device.budget));
  for (const Cause& cause : Causes(device.bytes, device.overhead)) {
    sum += static_cast<double>(cause.bytes);
    const auto end = std::min<double>(kBarWidth, std::round(sum / budget * kBarWidth));
    bar.resize(std::max(bar.size(), static_cast<size_t>(end)), cause.letter);
  }
  bar.resize(kBarWidth, '.');
  return "[" + bar + "]";
}

std::string CausesText(const PlanBytes& bytes, const PlanOverhead& overhead) {
  std::string text;
  for (const Cause& cause : Causes(bytes, overhead)) {
    if (cause.bytes == 0) continue;
    text += (text.empty() ? "" : ", ") + std::string(cause.name) + " " + Gigabytes(cause.bytes);
  }
  return text;
}

/// What counts under the plan's objective.
double SecondsOf(const Plan& plan, const PlannedDevice& device) {
  return plan.objective == "request" ? device.request_s + device.request_hop_s
                                     : device.step_s + device.hop_s;
}

std::string DeviceText(const Plan& plan, const PlannedDevice& device, double whole,
                       const std::string& indent) {
  const double seconds = SecondsOf(plan, device);
  const double share = whole > 0 ? 100 * seconds / whole : 0;
  std::string text = indent + device.device;
  if (!device.model.empty()) text += "  " + device.model;
  text += "\n" + indent + "  " + PartsText(device) + "\n";
  text += indent + "  " + Bar(device) +
          Format(" %s of %s, %s free\n", Gigabytes(device.bytes.total()).c_str(),
                 Gigabytes(device.budget).c_str(), Gigabytes(device.headroom()).c_str());
  text += indent + "  " + CausesText(device.bytes, device.overhead) + "\n";
  text += indent + "  ";
  if (plan.objective == "request") text += "request " + Seconds(device.request_s) + ", ";
  text += Format("step %s", Seconds(device.step_s).c_str());
  if (device.hop_s > 0) text += Format(", hand-over %s", Seconds(device.hop_s).c_str());
  return text + Format("  (%.0f %% of the time)\n", share);
}

std::string Heading(const Plan& plan) {
  const PlanWorkload& work = plan.workload;
  std::string text = Format("%s: %lld layers, %s of weights in %s\n", plan.model.kind.c_str(),
                            static_cast<long long>(plan.model.layers),
                            Gigabytes(plan.model.weight_bytes).c_str(), work.weights.c_str());
  text += Format("%lld sequence%s of %lld positions", static_cast<long long>(work.sequences),
                 work.sequences == 1 ? "" : "s", static_cast<long long>(work.context));
  if (work.images > 0) {
    text += Format(
        ", %lld picture%s each of %lldx%lld (%lld rows)", static_cast<long long>(work.images),
        work.images == 1 ? "" : "s", static_cast<long long>(work.picture_width),
        static_cast<long long>(work.picture_height), static_cast<long long>(work.picture_rows));
  }
  if (work.kv != "auto") text += ", keys and values in " + work.kv;
  return text + "\n";
}

std::string FittingText(const Plan& plan) {
  double whole = 0;
  for (const PlannedDevice& device : plan.devices) whole += SecondsOf(plan, device);
  std::string text;
  for (const PlannedDevice& device : plan.devices) {
    text += "\n" + DeviceText(plan, device, whole, "");
  }
  const PlanTimes& times = plan.predicted;
  text += "\nbar: W weights, K KV cache, A activations, V vision, S workspace, R runtime, . free\n";
  text += Format("%s %s%s: ", plan.objective.c_str(), Seconds(plan.value_s).c_str(),
                 plan.optimal ? " (no placement is better)" : "");
  text +=
      Format("%.1f tokens/s, one token %s, prompt of %lld rows %s", times.tokens_per_s,
             Seconds(times.decode_step_s).c_str(),
             static_cast<long long>(plan.workload.prompt_rows), Seconds(times.prefill_s).c_str());
  if (times.image_s > 0) text += Format(", picture %s", Seconds(times.image_s).c_str());
  text +=
      Format("\na request with an answer of %lld tokens: %s",
             static_cast<long long>(plan.workload.answer_tokens), Seconds(times.request_s).c_str());
  return text + "\n";
}

std::string Command(const PlanAlternative& alternative) {
  std::string text;
  for (const std::string& argument : alternative.arguments) {
    text += (text.empty() ? "" : " ") + argument;
  }
  return text;
}

std::string RefusalText(const Plan& plan) {
  std::string text = "\ndoes not fit\n";
  for (size_t i = 0; i < plan.shortages.size(); ++i) {
    const PlanShortage& shortage = plan.shortages[i];
    PlanOverhead overhead;
    for (const PlannedDevice& device : plan.devices) {
      if (device.device == shortage.device) overhead = device.overhead;
    }
    text += Format("  %s: needs %s, has %s: %s short\n", shortage.device.c_str(),
                   Gigabytes(shortage.needed).c_str(), Gigabytes(shortage.available).c_str(),
                   Gigabytes(shortage.missing()).c_str());
    text += "    " + CausesText(shortage.by_cause, overhead) + "\n";
  }
  if (plan.alternatives.empty()) return text + "no change that was tried makes it fit\n";
  text += "\nwhat would fit (append to the command)\n";
  size_t width = 0;
  for (const PlanAlternative& alternative : plan.alternatives) {
    width = std::max(width, alternative.change.size());
  }
  for (const PlanAlternative& alternative : plan.alternatives) {
    text += "  " + Padded(alternative.change, width) + "  " + Command(alternative) + "\n";
  }
  return text;
}

}  // namespace

std::string Gigabytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  const double size = std::abs(value);
  if (size >= 1e9) return Format("%.2f GB", value / 1e9);
  if (size >= 1e6) return Format("%.0f MB", value / 1e6);
  return Format("%.0f kB", value / 1e3);
}

std::string PartsText(const PlannedDevice& device) {
  std::string text;
  bool layers = false;
  for (const std::string& part : device.parts) {
    const bool is_layer = part.rfind("model.layers.", 0) == 0;
    if (is_layer && layers) continue;
    text += text.empty() ? "" : ", ";
    if (is_layer) {
      layers = true;
      text += device.first_layer == device.last_layer
                  ? Format("layer %lld", static_cast<long long>(device.first_layer))
                  : Format("layers %lld-%lld", static_cast<long long>(device.first_layer),
                           static_cast<long long>(device.last_layer));
    } else {
      text += part.rfind("model.", 0) == 0 ? part.substr(6) : part;
    }
  }
  return text;
}

std::string ToTable(const Plan& plan) {
  std::string text = Heading(plan) + (plan.fits ? FittingText(plan) : RefusalText(plan));
  for (const std::string& note : plan.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace xcomposer::cli
