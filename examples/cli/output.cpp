#include "output.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <tuple>

#include "exit_code.h"
#include "strict_json.h"

namespace xcomposer::cli {
namespace {

using nlohmann::json;

// The number of "model.layers.17", or -1 for another module.
int64_t LayerNumber(const std::string& module) {
  const std::string start = "model.layers.";
  if (module.compare(0, start.size(), start) != 0) return -1;
  int64_t number = -1;
  const char* end = module.data() + module.size();
  const auto parsed = std::from_chars(module.data() + start.size(), end, number);
  return parsed.ptr == end ? number : -1;
}

std::string JoinModules(const std::vector<std::string>& modules) {
  std::string text;
  for (size_t i = 0; i < modules.size(); ++i) {
    text += (text.empty() ? "" : ", ") + modules[i];
    const int64_t first = LayerNumber(modules[i]);
    int64_t last = first;
    while (first >= 0 && i + 1 < modules.size() && LayerNumber(modules[i + 1]) == last + 1) {
      ++last;
      ++i;
    }
    if (last > first) text += "-" + std::to_string(last);
  }
  return text;
}

bool IsLetterOrDigit(const std::string& text, size_t at) {
  return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at])) != 0;
}

// Whether a name or number goes on over text[at]: by a letter or digit, or by what joins such to
// another one, as in "cuda:1", "2-vl-7b" and "1.5"; `next` is the position beyond it.
bool GoesOn(const std::string& text, size_t at, size_t next) {
  if (at >= text.size()) return false;
  const bool joins = std::string("_-.:/").find(text[at]) != std::string::npos;
  return IsLetterOrDigit(text, at) || (joins && IsLetterOrDigit(text, next));
}

// Whether the text holds these words as such: "1" is no word of "1023".
bool HasWords(const std::string& text, const std::string& words) {
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) {
    const size_t end = at + words.size();
    if (!GoesOn(text, at - 1, at - 2) && !GoesOn(text, end, end + 1)) return true;
  }
  return false;
}

}  // namespace

json ToJson(const Error& error) {
  json where = json::object();
  for (const auto& [key, value] : error.where()) where[key] = value;
  return {{"kind", ToString(error.kind())}, {"message", error.what()}, {"where", where}};
}

void WarnOfCutPrompt(const Result& result) {
  if (result.prompt_truncated == 0) return;
  std::cerr << "warning: the prompt was longer than this model takes; its last "
            << result.prompt_truncated << " rows were cut off\n";
}

json ToJson(const std::vector<Placement>& placement) {
  json list = json::array();
  for (const Placement& part : placement) {
    list.push_back({{"device", part.device}, {"modules", part.modules}});
  }
  return list;
}

json ToJson(const LoadTimings& load) {
  return {{"device_s", load.device_s},
          {"weights_s", load.weights_s},
          {"warm_up_s", load.warm_up_s},
          {"weight_bytes", load.weight_bytes}};
}

json ToJson(const Result& result) {
  const Timings& timings = result.timings;
  json object = {{"text", result.text},
                 {"output_ids", result.output_ids},
                 {"prompt_tokens", result.prompt_tokens},
                 {"image_tokens", result.image_tokens},
                 {"prompt_truncated", result.prompt_truncated},
                 {"finish_reason", ToString(result.finish_reason)},
                 {"seed", result.seed},
                 {"timings",
                  {{"load_s", timings.load_s},
                   {"image_s", timings.image_s},
                   {"prefill_s", timings.prefill_s},
                   {"decode_s", timings.decode_s},
                   {"tokens_per_s", timings.tokens_per_s},
                   {"step_s", timings.step_s},
                   {"load", ToJson(timings.load)}}},
                 {"placement", ToJson(result.placement)}};
  if (!result.id.empty()) object["id"] = result.id;
  return object;
}

void PrintLine(const json& value) { std::cout << ToLine(value) << std::endl; }

int Report(const Error& error, bool as_json) {
  if (as_json) {
    PrintLine({{"error", ToJson(error)}});
    return ExitCode(error.kind());
  }
  std::cerr << "xcomposer: " << ToString(error.kind()) << " error: " << error.what() << '\n';
  for (const auto& [key, value] : error.where()) {
    if (!HasWords(error.what(), value)) std::cerr << "  " << key << ": " << value << '\n';
  }
  return ExitCode(error.kind());
}

std::string Describe(const std::vector<Placement>& placement) {
  std::string text;
  for (const Placement& part : placement) {
    text += part.device + ": " + JoinModules(part.modules) + "\n";
  }
  return text;
}

std::string Describe(const PlacementReport& report) {
  std::string text;
  for (const StagePlacement& stage : report.stages) {
    text += "rank " + std::to_string(stage.rank) + ", " + stage.device + ": " +
            JoinModules(stage.modules) + "\n";
    const std::vector<std::tuple<const char*, int64_t, int64_t>> causes = {
        {"weights", stage.weights, stage.planned.weights},
        {"KV cache", stage.kv, stage.planned.kv},
        {"activations and vision", std::max(stage.activations, stage.vision),
         stage.planned.activations + stage.planned.vision}};
    for (const auto& [cause, measured, planned] : causes) {
      if (!stage.measured_here && planned == 0) continue;
      if (measured == 0 && planned == 0) continue;
      text += std::string("  ") + cause + ": ";
      if (stage.measured_here) text += HumanBytes(measured) + " measured, ";
      text += HumanBytes(planned) + " planned\n";
    }
    if (!stage.measured_here) text += "  in another process: not measured here\n";
  }
  const JoinReport& join = report.join;
  text += "join of picture and text rows: device " + join.picture_device + " = " +
          join.text_device + ", type " + join.type + ", width " + std::to_string(join.width) +
          ", " + std::to_string(join.rows) + " rows in " + std::to_string(join.joins) +
          (join.joins == 1 ? " place: checked\n" : " places: checked\n");
  return text;
}

json ToJson(const PlacementReport& report) {
  json stages = json::array();
  for (const StagePlacement& stage : report.stages) {
    const PlanBytes& planned = stage.planned;
    json object = {{"stage", stage.stage},
                   {"rank", stage.rank},
                   {"device", stage.device},
                   {"modules", stage.modules},
                   {"planned",
                    {{"weights", planned.weights},
                     {"kv", planned.kv},
                     {"activations", planned.activations},
                     {"vision", planned.vision},
                     {"workspace", planned.workspace},
                     {"overhead", planned.overhead},
                     {"total", planned.total()}}}};
    if (stage.measured_here) {
      object["measured"] = {{"weights", stage.weights},
                            {"kv", stage.kv},
                            {"activations", stage.activations},
                            {"vision", stage.vision}};
    }
    stages.push_back(std::move(object));
  }
  const JoinReport& join = report.join;
  return {{"stages", stages},
          {"join",
           {{"picture_device", join.picture_device},
            {"text_device", join.text_device},
            {"type", join.type},
            {"width", join.width},
            {"joins", join.joins},
            {"rows", join.rows}}}};
}

void RequireNoneOf(const std::string& written, const std::vector<std::string>& read) {
  for (const std::string& file : read) {
    std::error_code none;  // of files that are not there
    if (!std::filesystem::equivalent(written, file, none)) continue;
    throw Error(ErrorKind::kUsage, "'" + written + "' would replace a file that is read",
                {{"file", written}});
  }
}

std::string HumanBytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace xcomposer::cli
