#include "plan_svg.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "plan_table.h"

namespace xcomposer::cli {
namespace {

constexpr int kWidth = 900;
constexpr int kRow = 92;
constexpr int kTop = 64;
constexpr int kLeft = 24;
constexpr int kBar = 640;   // pixels of the largest budget
constexpr int kTime = 180;  // pixels of the slowest stage
constexpr int kTimeLeft = kLeft + kBar + 32;

struct Share {
  const char* name;
  const char* colour;
  int64_t bytes;
};

// Colours that stay apart for colour-blind readers (Okabe and Ito).
std::array<Share, 6> Shares(const PlannedDevice& device) {
  const PlanBytes& bytes = device.bytes;
  const PlanOverhead& overhead = device.overhead;
  return {{{"weights", "#0072b2", bytes.weights},
           {"KV cache", "#e69f00", bytes.kv},
           {"activations", "#009e73", bytes.activations + overhead.activations},
           {"vision", "#cc79a7", bytes.vision},
           {"workspace", "#56b4e9", bytes.workspace + overhead.workspace},
           {"runtime", "#999999", overhead.runtime}}};
}

std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '<') {
      escaped += "&lt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Rectangle(double x, double y, double width, double height, const std::string& style) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(),
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" %s/>\n", x, y, width,
                height, style.c_str());
  return text.data();
}

std::string Words(int x, int y, const std::string& text, const char* style = "") {
  return "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\" " + style + ">" +
         Escaped(text) + "</text>\n";
}

std::string Milliseconds(double seconds) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.3f ms", seconds * 1e3);
  return text.data();
}

struct Scale {
  double bytes = 1;    // of the largest budget
  double seconds = 1;  // of the slowest stage
};

std::string Row(const PlannedDevice& device, const Scale& scale, int y) {
  const std::string model = device.model.empty() ? "" : "  (" + device.model + ")";
  std::string text = Words(kLeft, y + 16, device.device + model, "font-weight=\"bold\"");
  text += Words(kLeft, y + 34, PartsText(device));
  double x = kLeft;
  for (const Share& share : Shares(device)) {
    const double width = static_cast<double>(share.bytes) / scale.bytes * kBar;
    text += Rectangle(x, y + 42, width, 20, std::string("fill=\"") + share.colour + "\"");
    x += width;
  }
  text += Rectangle(kLeft, y + 42, static_cast<double>(device.budget) / scale.bytes * kBar, 20,
                    "fill=\"none\" stroke=\"black\"");
  text += Words(kLeft, y + 78,
                Gigabytes(device.bytes.total()) + " of " + Gigabytes(device.budget) + ", " +
                    Gigabytes(device.headroom()) + " free",
                "font-size=\"12\"");
  const double step = device.step_s / scale.seconds * kTime;
  text += Rectangle(kTimeLeft, y + 42, step, 20, "fill=\"#444444\"");
  text += Rectangle(kTimeLeft + step, y + 42, device.hop_s / scale.seconds * kTime, 20,
                    "fill=\"#d55e00\"");
  return text +
         Words(kTimeLeft, y + 78, Milliseconds(device.step_s + device.hop_s), "font-size=\"12\"");
}

}  // namespace

std::string ToSvg(const Plan& plan) {
  Scale scale;
  for (const PlannedDevice& device : plan.devices) {
    const int64_t largest = std::max(device.budget, device.bytes.total());
    scale.bytes = std::max(scale.bytes, static_cast<double>(largest));
  }
  scale.seconds = 1e-12;
  for (const PlannedDevice& device : plan.devices) {
    scale.seconds = std::max(scale.seconds, device.step_s + device.hop_s);
  }
  const int rows = static_cast<int>(plan.devices.size());
  const int height = kTop + rows * kRow + 40;
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(kWidth) +
                     "\" height=\"" + std::to_string(height) +
                     "\" font-family=\"sans-serif\" font-size=\"14\">\n";
  text += Rectangle(0, 0, kWidth, height, "fill=\"white\"");
  text += Words(kLeft, 26,
                plan.model.kind + ", " + plan.workload.weights + " weights, " +
                    (plan.workload.kv == "auto" ? "" : plan.workload.kv + " keys and values, ") +
                    std::to_string(plan.workload.sequences) + " x " +
                    std::to_string(plan.workload.context) + " positions" +
                    (plan.fits ? "" : ": does not fit"),
                "font-size=\"17\" font-weight=\"bold\"");
  text += Words(kLeft, 50, "memory by cause, against what may be used", "font-size=\"12\"");
  text += Words(kTimeLeft, 50, "time of a step, hand-over", "font-size=\"12\"");
  for (int i = 0; i < rows; ++i) {
    text += Row(plan.devices[static_cast<size_t>(i)], scale, kTop + i * kRow);
  }
  int x = kLeft;
  for (const Share& share : Shares(PlannedDevice())) {
    text += Rectangle(x, height - 26, 12, 12, std::string("fill=\"") + share.colour + "\"");
    text += Words(x + 18, height - 15, share.name, "font-size=\"12\"");
    x += 110;
  }
  return text + "</svg>\n";
}

}  // namespace xcomposer::cli
