#include <unistd.h>

#include <iostream>
#include <memory>

#include "bench_json.h"
#include "bench_table.h"
#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "interrupt.h"
#include "number_option.h"
#include "output.h"
#include "progress_bar.h"
#include "token_counts.h"
#include "xcomposer/benchmark.h"

namespace xcomposer::cli {
namespace {

struct BenchFlags {
  EngineFlags engine;
  std::string random;
  std::optional<int64_t> new_tokens;
  std::optional<int64_t> repeat;
  bool no_picture = false;
  bool json = false;
  BenchmarkOptions options;  // what can be read while the command line is parsed
};

void ThrowIfInterrupted() {
  if (Interrupted()) throw Error(ErrorKind::kCancelled, "interrupted");
}

/// "measuring decode 128 (12 of 36)" on a terminal, drawn over and over.
class StatusLine {
 public:
  explicit StatusLine(bool wanted) : shown_(wanted && isatty(STDERR_FILENO) == 1) {}
  ~StatusLine() {
    if (!last_.empty()) std::cerr << "\r\033[K" << std::flush;
  }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void Update(const BenchmarkProgress& progress) {
    if (!shown_) return;
    const std::string line = "measuring " + progress.what + " (" +
                             std::to_string(progress.done + 1) + " of " +
                             std::to_string(progress.total) + ")";
    if (line == last_) return;
    last_ = line;
    std::cerr << '\r' << line << "\033[K" << std::flush;
  }

 private:
  const bool shown_;
  std::string last_;
};

void SetImageSize(const std::string& text, BenchmarkOptions& options) {
  const size_t cross = text.find('x');
  if (cross == std::string::npos) {
    throw CLI::ValidationError("--image-size", "expected WIDTHxHEIGHT, found '" + text + "'");
  }
  const Range<int64_t> range = {1, 1 << 16};
  options.image_width = ParseNumber<int64_t>("--image-size", text.substr(0, cross), range);
  options.image_height = ParseNumber<int64_t>("--image-size", text.substr(cross + 1), range);
}

BenchmarkOptions ToOptions(const BenchFlags& flags) {
  if (flags.engine.model.empty() == flags.random.empty()) {
    throw Error(ErrorKind::kUsage, "give either --model, or --random for weights that are drawn");
  }
  BenchmarkOptions options = flags.options;
  options.engine = ToEngineOptions(flags.engine);
  if (!flags.random.empty()) {
    options.engine.model = flags.random;
    options.engine.random_weights = true;
  }
  options.new_tokens = flags.new_tokens.value_or(options.new_tokens);
  options.repeat = flags.repeat.value_or(options.repeat);
  options.picture = !flags.no_picture;
  return options;
}

int RunBench(const BenchFlags& flags) {
  BenchmarkOptions options = ToOptions(flags);
  if (const std::optional<int> code = ServeWhereNotFirst(flags.engine)) return *code;
  WatchInterrupt();
  BenchmarkReport report;
  {
    StatusLine status(!flags.engine.quiet);
    auto bar = std::make_shared<ProgressBar>("loading", !flags.engine.quiet);
    options.engine.progress = [bar](const LoadProgress& progress) {
      ThrowIfInterrupted();
      bar->Update(progress.bytes_done, progress.bytes_total);
    };
    options.progress = [&status](const BenchmarkProgress& progress) {
      ThrowIfInterrupted();
      status.Update(progress);
    };
    report = RunBenchmark(options);
  }
  if (flags.json) {
    PrintLine(ToJson(report));
  } else {
    std::cout << BenchmarkText(report) << std::flush;
  }
  return kDone;
}

void AddMeasurements(CLI::App& command, BenchFlags& flags) {
  command
      .add_option("--random", flags.random,
                  "Instead of --model: draw weights of a kind (2-vl-7b, ...), a config.json or "
                  "its folder")
      ->type_name("SHAPE");
  BenchmarkOptions& options = flags.options;
  command
      .add_option_function<std::string>(
          "--prompt-tokens",
          [&options](const std::string& text) {
            options.prompt_tokens = ParseTokenCounts("--prompt-tokens", text);
          },
          "Prompts to time, or none (default 128,512)")
      ->type_name("LIST");
  command
      .add_option_function<std::string>(
          "--context",
          [&options](const std::string& text) {
            options.contexts = ParseTokenCounts("--context", text);
          },
          "Tokens before those that decoding is timed on, or none (default 128)")
      ->type_name("LIST");
  AddNumber<int64_t>(command, "--new-tokens", flags.new_tokens, {2, 1 << 20},
                     "Tokens of a decode run (default 32); the first is part of the prompt's time");
  AddNumber<int64_t>(command, "--repeat", flags.repeat, {1, 1000},
                     "Runs of each figure, after one that does not count (default 5)");
  command.add_flag("--no-picture", flags.no_picture, "Without the vision tower's figures");
  command
      .add_option_function<std::string>(
          "--image-size", [&options](const std::string& text) { SetImageSize(text, options); },
          "Size of the picture in pixels (default: the most tiles)")
      ->type_name("WxH");
  AddNumber<int64_t>(command, "--hd-num", options.hd_num, {1, 10000}, "Limit of tiles (4khd, 2.5)");
}

}  // namespace

void AddBench(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure load, vision, prompt and answer speed against this machine's limits");
  auto flags = std::make_shared<BenchFlags>();
  AddEngineFlags(*command, flags->engine);
  command->get_option("--model")->required(false);
  // Flags of what a benchmark has not: files of its pictures, a result to show the placement with.
  for (const char* name : {"--max-image-pixels", "--video-font", "--show-placement"}) {
    command->remove_option(command->get_option(name));
  }
  AddMeasurements(*command, *flags);
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunBench(*flags); };
  });
}

}  // namespace xcomposer::cli
