#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "support/stand_in_stage.h"

namespace xcomposer::testing {

/// One run of stages to draw.
struct DrawnRun {
  std::string title;
  int stages = 0;
  std::vector<Span> spans;
};

/// Writes a picture of what each stage worked on over time: a row per stage, a box per step, grey
/// where the stage had nothing to do between its first and last chance.
inline void WriteTimelines(const std::string& file, const std::vector<DrawnRun>& runs) {
  constexpr double kWidth = 880, kLeft = 78, kRow = 30, kGap = 6, kHead = 46, kFoot = 30;
  // Hues far enough apart for neighbours, readable with black digits.
  const std::vector<std::string> colours = {"#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc",
                                            "#fdd49e", "#c7e9c0", "#d4b9da", "#fee391"};
  double height = 12;
  for (const DrawnRun& run : runs) height += kHead + run.stages * (kRow + kGap) + kFoot;
  std::ofstream out(file);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kLeft + kWidth + 22
      << "\" height=\"" << height
      << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  double top = 12;
  for (const DrawnRun& run : runs) {
    double first = 1e300, last = 0;
    for (const Span& span : run.spans) {
      first = std::min(first, span.begin_s);
      last = std::max(last, span.end_s);
    }
    const auto x = [&](double t) { return kLeft + kWidth * (t - first) / (last - first); };
    out << "<text x=\"" << kLeft << "\" y=\"" << top + 20 << "\" font-size=\"14\">" << run.title
        << "</text>\n";
    top += kHead - 14;
    for (int stage = 0; stage < run.stages; ++stage) {
      const double y = top + stage * (kRow + kGap);
      out << "<text x=\"12\" y=\"" << y + 19 << "\">stage " << stage << "</text>\n<rect x=\""
          << kLeft << "\" y=\"" << y << "\" width=\"" << kWidth << "\" height=\"" << kRow
          << "\" fill=\"#eeeeee\"/>\n";
    }
    for (const Span& span : run.spans) {
      const double y = top + span.stage * (kRow + kGap);
      const double width = x(span.end_s) - x(span.begin_s);
      out << "<rect x=\"" << x(span.begin_s) << "\" y=\"" << y << "\" width=\"" << width
          << "\" height=\"" << kRow << "\" fill=\"" << colours[span.step % colours.size()]
          << "\" stroke=\"white\" stroke-width=\"0.6\"/>\n";
      if (width > 16) {
        out << "<text x=\"" << x(span.begin_s) + width / 2 << "\" y=\"" << y + 19
            << "\" text-anchor=\"middle\">" << span.step << "</text>\n";
      }
    }
    top += run.stages * (kRow + kGap);
    for (int tick = 0; tick <= 4; ++tick) {
      const double t = first + (last - first) * tick / 4;
      std::array<char, 32> label{};
      std::snprintf(label.data(), label.size(), "%.0f ms", 1e3 * (t - first));
      out << "<text x=\"" << x(t) << "\" y=\"" << top + 14 << "\" text-anchor=\""
          << (tick == 0   ? "start"
              : tick == 4 ? "end"
                          : "middle")
          << "\" fill=\"#666666\">" << label.data() << "</text>\n";
    }
    top += kFoot + 14;
  }
  out << "</svg>\n";
}

}  // namespace xcomposer::testing
