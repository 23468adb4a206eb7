#include "bench_table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

namespace xcomposer::cli {
namespace {

template <typename... Values>
std::string Format(const char* format, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

/// Three digits that count: "0.123", "1.23", "12.3", "123", "1234".
std::string Digits(double value) {
  if (value < 1) return Format("%.3f", value);
  if (value < 10) return Format("%.2f", value);
  return Format(value < 100 ? "%.1f" : "%.0f", value);
}

struct Unit {
  double scale;
  const char* name;
};

Unit TimeUnit(double seconds) {
  if (seconds < 1e-3) return {1e6, "us"};
  return seconds < 1 ? Unit{1e3, "ms"} : Unit{1, "s"};
}

/// Of bytes, or of operations (products in 8 bits are no floating point ones).
Unit RateUnit(double rate, bool bytes) {
  if (rate >= 1e12) return {1e-12, bytes ? "TB/s" : "TOP/s"};
  if (rate >= 1e9) return {1e-9, bytes ? "GB/s" : "GOP/s"};
  return {1e-6, bytes ? "MB/s" : "MOP/s"};
}

std::string SpreadText(const Spread& spread, Unit unit) {
  std::string text = Digits(spread.median * unit.scale);
  if (spread.runs > 1) {
    text += " [" + Digits(spread.min * unit.scale) + "-" + Digits(spread.max * unit.scale) + "]";
  }
  return unit.name[0] == '\0' ? text : text + " " + unit.name;
}

std::string PercentText(const std::optional<double>& percent) {
  return percent ? Format("%.1f %%", *percent) : "?";
}

/// Bytes where the figure is bound by them, else operations.
std::string RateText(const BenchmarkFigure& figure, bool by_bytes) {
  const Spread& rate = by_bytes ? figure.bytes_per_s : figure.operations_per_s;
  return rate.runs == 0 ? "" : SpreadText(rate, RateUnit(rate.median, by_bytes));
}

std::string SharesText(const BenchmarkFigure& figure) {
  std::vector<LimitShare> shares = figure.shares;
  std::stable_partition(shares.begin(), shares.end(),
                        [&](const LimitShare& share) { return share.limit == figure.bound; });
  std::string text;
  for (const LimitShare& share : shares) {
    text += text.empty() ? "" : ", ";
    text += Digits(share.percent.median) + " % of " + share.limit;
  }
  return text;
}

bool IsOfBytes(const BenchmarkReport& report, const std::string& limit) {
  for (const MachineLimit& known : report.limits) {
    if (known.name == limit) return known.unit == "B/s";
  }
  return false;
}

using Row = std::vector<std::string>;

Row FigureRow(const BenchmarkReport& report, const BenchmarkFigure& figure) {
  const bool by_bytes = figure.phase == "load" || IsOfBytes(report, figure.bound);
  return {figure.name,
          figure.rows > 0 ? std::to_string(figure.rows) : "",
          SpreadText(figure.seconds, TimeUnit(figure.seconds.median)),
          figure.rows_per_s.runs > 0 ? SpreadText(figure.rows_per_s, {1, ""}) : "",
          RateText(figure, by_bytes),
          SharesText(figure),
          PercentText(figure.foreign_cpu)};
}

std::string TableText(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string CountText(int64_t count) {
  const auto number = static_cast<double>(count);
  return count < 1'000'000'000 ? Format("%.3g million", number / 1e6)
                               : Format("%.3g billion", number / 1e9);
}

std::string HeadText(const BenchmarkReport& report) {
  const ModelInfo& model = report.model;
  std::string text = "xcomposer " + report.version;
  if (!report.commit.empty()) text += " (" + report.commit + ")";
  text += " on " + report.host + ": " + report.processor + ", " + report.kernels + " kernels, " +
          std::to_string(report.threads) + " threads; devices";
  for (const std::string& device : report.devices) text += " " + device;
  text += "\n" + model.kind + ", " + (report.random_weights ? "random weights" : model.path) +
          ": " + CountText(model.parameters) + " parameters, " + report.weights + ", " +
          Format("%.3g GB", static_cast<double>(model.weight_bytes) / 1e9) +
          ", keys and values in " + report.kv +
          (report.activations == "bf16" ? ", activations in bf16" : "") + "\n";
  return text;
}

std::string LimitsText(const BenchmarkReport& report) {
  std::string text;
  for (const MachineLimit& limit : report.limits) {
    text += "limit " + limit.name + ": " +
            SpreadText(limit.rate, RateUnit(limit.rate.median, limit.unit == "B/s")) + " (" +
            limit.detail + ")\n";
  }
  return text;
}

}  // namespace

std::string BenchmarkText(const BenchmarkReport& report) {
  std::vector<Row> rows = {
      {"", "rows", "time", "tokens/s", "rate", "of what is possible", "foreign CPU"}};
  for (const BenchmarkFigure& figure : report.figures) rows.push_back(FigureRow(report, figure));
  std::string text = HeadText(report) + LimitsText(report) + "\n" + TableText(rows);
  text += "\nmedians [least-most]; foreign CPU " + PercentText(report.foreign_cpu) +
          " in all, kept by the host " + PercentText(report.stolen_cpu) + "\n";
  for (const std::string& warning : report.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace xcomposer::cli
