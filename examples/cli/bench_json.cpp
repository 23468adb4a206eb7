#include "bench_json.h"

namespace xcomposer::cli {
namespace {

using nlohmann::json;

json SpreadJson(const Spread& spread) {
  return {
      {"median", spread.median}, {"min", spread.min}, {"max", spread.max}, {"runs", spread.runs}};
}

json PercentJson(const std::optional<double>& percent) {
  return percent ? json(*percent) : json(nullptr);
}

json LimitJson(const MachineLimit& limit) {
  return {{"name", limit.name},
          {"detail", limit.detail},
          {"unit", limit.unit},
          {"measured", limit.measured},
          {"rate", SpreadJson(limit.rate)}};
}

json FigureJson(const BenchmarkFigure& figure) {
  json shares = json::array();
  for (const LimitShare& share : figure.shares) {
    shares.push_back({{"limit", share.limit}, {"percent", SpreadJson(share.percent)}});
  }
  json object = {{"name", figure.name},
                 {"phase", figure.phase},
                 {"rows", figure.rows},
                 {"picture_rows", figure.picture_rows},
                 {"context", figure.context},
                 {"seconds", SpreadJson(figure.seconds)},
                 {"bytes", figure.bytes},
                 {"operations", figure.operations},
                 {"shares", shares},
                 {"bound", figure.bound.empty() ? json(nullptr) : json(figure.bound)},
                 {"foreign_cpu_percent", PercentJson(figure.foreign_cpu)},
                 {"stolen_cpu_percent", PercentJson(figure.stolen_cpu)}};
  // A rate of something that the figure is not about is left out.
  if (figure.rows_per_s.runs > 0) object["tokens_per_s"] = SpreadJson(figure.rows_per_s);
  if (figure.bytes_per_s.runs > 0) object["bytes_per_s"] = SpreadJson(figure.bytes_per_s);
  if (figure.operations_per_s.runs > 0) {
    object["operations_per_s"] = SpreadJson(figure.operations_per_s);
  }
  return object;
}

json ModelJson(const BenchmarkReport& report) {
  const ModelInfo& model = report.model;
  return {{"path", model.path},
          {"kind", model.kind},
          {"random", report.random_weights},
          {"weights", report.weights},
          {"kv", report.kv},
          {"activations", report.activations},
          {"quantization", model.quantization},
          {"parameters", model.parameters},
          {"weight_bytes", model.weight_bytes},
          {"layers", model.layers},
          {"hidden", model.hidden},
          {"vocab", model.vocab},
          {"load_s", model.load_s}};
}

}  // namespace

json ToJson(const BenchmarkReport& report) {
  json limits = json::array();
  for (const MachineLimit& limit : report.limits) limits.push_back(LimitJson(limit));
  json figures = json::array();
  for (const BenchmarkFigure& figure : report.figures) figures.push_back(FigureJson(figure));
  return {{"version", report.version},
          {"commit", report.commit},
          {"machine",
           {{"host", report.host},
            {"processor", report.processor},
            {"kernels", report.kernels},
            {"threads", report.threads},
            {"cache_bytes", report.cache_bytes},
            {"devices", report.devices}}},
          {"model", ModelJson(report)},
          {"prefill_chunk", report.prefill_chunk},
          {"new_tokens", report.new_tokens},
          {"limits", limits},
          {"figures", figures},
          {"foreign_cpu_percent", PercentJson(report.foreign_cpu)},
          {"stolen_cpu_percent", PercentJson(report.stolen_cpu)},
          {"warnings", report.warnings}};
}

}  // namespace xcomposer::cli
