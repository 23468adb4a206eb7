#include "xcomposer/plan.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "number_option.h"
#include "output.h"
#include "plan_json.h"
#include "plan_svg.h"
#include "plan_table.h"

namespace xcomposer::cli {
namespace {

struct PlanFlags {
  PlanOptions options;
  std::string export_device_map;
  std::string svg;
  bool json = false;
};

/// A number that may be given again: the last one counts, so that an alternative's arguments can be
/// appended to a command.
template <typename Set>
void AddLastNumber(CLI::App& command, const std::string& option, Range<int64_t> range,
                   const std::string& help, Set set) {
  command
      .add_option_function<std::string>(
          option,
          [option, range, set](const std::string& text) {
            set(ParseNumber<int64_t>(option, text, range));
          },
          help)
      ->type_name("N")
      ->take_last();
}

CLI::Option* AddLast(CLI::App& command, const std::string& option, std::string& target,
                     const std::string& type, const std::string& help) {
  return command.add_option(option, target, help)->type_name(type)->take_last();
}

void SetImageSize(const std::string& text, PlanOptions& options) {
  const size_t cross = text.find('x');
  const Range<int64_t> range = {1, 1 << 20};
  if (cross == std::string::npos) {
    throw CLI::ValidationError("--image-size", "expected WIDTHxHEIGHT, found '" + text + "'");
  }
  options.image_width = ParseNumber<int64_t>("--image-size", text.substr(0, cross), range);
  options.image_height = ParseNumber<int64_t>("--image-size", text.substr(cross + 1), range);
}

void AddPlaces(CLI::App& command, PlanFlags& flags) {
  PlanOptions& options = flags.options;
  AddLast(command, "--model", options.model, "DIR",
          "Checkpoint folder, repository id, or only its config.json")
      ->required();
  AddLast(command, "--kind", options.kind, "KIND",
          "2-7b, 2-vl-7b, ... where config.json leaves it open");
  AddLast(command, "--cluster", options.cluster, "FILE", "JSON file that describes the machines");
  command
      .add_option_function<std::string>(
          "--devices",
          [&options](const std::string& text) { options.devices = SplitAtCommas(text); },
          "Devices of this machine, all of them used (default: any it has)")
      ->type_name("LIST")
      ->take_last();
  AddLast(command, "--max-memory", options.max_memory, "JSON",
          "Hugging Face's max_memory, text or file: {\"0\": \"20GiB\"}");
  AddLast(command, "--device-map", options.device_map, "FILE",
          "Check and measure a hand-made map; auto: plan one");
  AddLast(command, "--order", options.order, "ORDER", "any, or given: stages in the devices' order")
      ->check(CLI::IsMember({"any", "given"}));
  AddLastNumber(command, "--extra-devices", {0, 512},
                "As if the largest device were there N more times",
                [&options](int64_t n) { options.extra_devices = n; });
}

void AddWork(CLI::App& command, PlanOptions& options) {
  AddLastNumber(command, "--context", {1, 1 << 27}, "Positions of a sequence, prompt and answer",
                [&options](int64_t n) { options.context = n; });
  AddLastNumber(command, "--sequences", {1, 1 << 16}, "Sequences in flight (default 1)",
                [&options](int64_t n) { options.sequences = n; });
  AddLastNumber(command, "--images", {0, 1 << 16}, "Pictures per request (default 1)",
                [&options](int64_t n) { options.images = n; });
  command
      .add_option_function<std::string>(
          "--image-size", [&options](const std::string& text) { SetImageSize(text, options); },
          "Size of a picture in pixels (default: the most tiles)")
      ->type_name("WxH")
      ->take_last();
  AddLastNumber(command, "--hd-num", {1, 10000}, "Limit of tiles (4khd, 2.5)",
                [&options](int64_t n) { options.hd_num = n; });
  AddLastNumber(command, "--prefill-chunk", {1, 1 << 20}, "Rows of one prefill step (default 1024)",
                [&options](int64_t n) { options.prefill_chunk = n; });
  command
      .add_option_function<std::string>(
          "--weights",
          [&options](const std::string& text) { options.weights = SplitAtCommas(text); },
          "auto, fp32, fp16, bf16, bf12, int8, int4; of several the first that fits")
      ->type_name("LIST")
      ->take_last();
  AddLast(command, "--kv", options.kv, "TYPE",
          "Keys and values: auto (as computed), or int8 (CPUs only)")
      ->check(CLI::IsMember({"auto", "int8"}));
  AddLast(command, "--objective", options.objective, "GOAL",
          "throughput, latency (default for one sequence) or request: pictures, prompt and answer")
      ->check(CLI::IsMember({"throughput", "latency", "request"}));
  AddLastNumber(command, "--answer-tokens", {1, 1 << 27},
                "Of an answer, for the time of a request (default 128)",
                [&options](int64_t n) { options.answer_tokens = n; });
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  if (!(file << text << std::flush)) {
    throw Error(ErrorKind::kUsage, "'" + path + "' cannot be written: " + std::strerror(errno),
                {{"file", path}});
  }
}

int RunPlan(const PlanFlags& flags) {
  const PlanOptions& options = flags.options;
  for (const std::string& written : {flags.export_device_map, flags.svg}) {
    RequireNoneOf(written, {options.model, options.model + "/config.json", options.cluster,
                            options.device_map, options.max_memory});
  }
  const Plan plan = MakePlan(flags.options);
  if (plan.fits && !flags.export_device_map.empty()) {
    WriteFile(flags.export_device_map, plan.device_map + "\n");
  }
  if (!flags.svg.empty()) WriteFile(flags.svg, ToSvg(plan));
  if (flags.json) {
    std::cout << ToJson(plan).dump() << std::endl;
  } else {
    std::cout << ToTable(plan) << std::flush;
  }
  return plan.fits ? kDone : kDoesNotFit;
}

}  // namespace

void AddPlan(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "plan", "Show what goes where and what it costs; needs no weights and no GPU");
  auto flags = std::make_shared<PlanFlags>();
  AddPlaces(*command, *flags);
  AddWork(*command, flags->options);
  AddLast(*command, "--export-device-map", flags->export_device_map, "FILE",
          "Write the placement as a Hugging Face device_map")
      ->check(FileName);
  AddLast(*command, "--svg", flags->svg, "FILE", "Draw the placement")->check(FileName);
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunPlan(*flags); };
  });
}

}  // namespace xcomposer::cli
