#include <cstdio>
#include <iostream>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "interrupt.h"
#include "number_option.h"
#include "output.h"
#include "progress_bar.h"
#include "request_json.h"
#include "request_runner.h"
#include "utf8.h"

namespace xcomposer::cli {
namespace {

struct GenerateFlags {
  EngineFlags engine;
  RequestFlags request;
  std::optional<std::string> prompt;
  std::vector<std::string> images;
  std::string request_file;
  std::vector<std::string> image_roots;
  std::optional<int64_t> parallel;
  bool json = false;
};

RequestFile FromPrompt(const GenerateFlags& flags) {
  RequireUtf8(*flags.prompt, ErrorKind::kPrompt, "--prompt");
  ParsedRequest parsed;
  parsed.request.query = *flags.prompt;
  parsed.request.specials = Specials::kReference;
  parsed.request.place_missing_marks_first = true;
  if (!flags.images.empty()) {
    parsed.request.images.emplace();
    ImageRoots roots = {""};
    roots.insert(roots.end(), flags.image_roots.begin(), flags.image_roots.end());
    for (const std::string& image : flags.images) {
      parsed.request.images->push_back(ImageAt(FindImage(image, roots)));
    }
  }
  RequestFile file;
  file.items.emplace_back(std::move(parsed));
  return file;
}

RequestFile ReadRequests(const GenerateFlags& flags) {
  if (flags.prompt.has_value() == !flags.request_file.empty()) {
    throw Error(ErrorKind::kUsage, "give either --prompt or --request");
  }
  if (flags.prompt) return FromPrompt(flags);
  if (!flags.images.empty()) {
    throw Error(ErrorKind::kUsage,
                "--image goes with --prompt; a request file names its own pictures");
  }
  return ReadRequestFile(flags.request_file, {flags.image_roots.begin(), flags.image_roots.end()});
}

void PrintStatistics(const Result& result) {
  const Timings& time = result.timings;
  std::array<char, 256> line{};
  std::snprintf(
      line.data(), line.size(),
      "[%lld prompt tokens, %lld of them from pictures; %zu new; %s; pictures %.2f s, prompt "
      "%.2f s, answer %.2f s, %.1f tokens/s; seed %llu]\n",
      static_cast<long long>(result.prompt_tokens), static_cast<long long>(result.image_tokens),
      result.output_ids.size(), ToString(result.finish_reason), time.image_s, time.prefill_s,
      time.decode_s, time.tokens_per_s, static_cast<unsigned long long>(result.seed));
  std::cerr << line.data();
}

int ExitCodeOf(const Result& result) {
  return result.finish_reason == FinishReason::kCancelled ? kInterrupted : kDone;
}

Result Answer(Engine& engine, ParsedRequest parsed, const GenerateFlags& flags) {
  ProgressBar bar("prompt", !flags.engine.quiet, ProgressBar::Unit::kRows);
  parsed.request.reports_progress = true;
  return RunOne(engine, parsed, [&](const Event& event) {
    if (event.progress) {
      bar.Update(event.progress->rows_done, event.progress->rows_total);
      return;
    }
    bar.Clear();
    if (!flags.json) std::cout << event.text << std::flush;
  });
}

int GenerateOne(Engine& engine, const ParsedRequest& parsed, const GenerateFlags& flags) {
  const Result result = Answer(engine, parsed, flags);
  if (flags.json) {
    nlohmann::json object = ToJson(result);
    if (flags.engine.show_placement) object["placement_report"] = ToJson(engine.placement());
    PrintLine(object);
  } else {
    std::cout << std::endl;
    if (flags.engine.show_placement) std::cout << Describe(engine.placement()) << std::flush;
    if (!flags.engine.quiet) PrintStatistics(result);
    WarnOfCutPrompt(result);
  }
  return ExitCodeOf(result);
}

// Prints the outcomes of a list one by one: a JSON array, or the answers under headings.
class ListPrinter {
 public:
  explicit ListPrinter(const GenerateFlags& flags) : flags_(flags) {}

  void Print(size_t index, const Outcome& outcome) {
    const Error* error = std::get_if<Error>(&outcome);
    const Result* result = std::get_if<Result>(&outcome);
    if (exit_code_ == kDone) exit_code_ = error ? ExitCode(error->kind()) : ExitCodeOf(*result);
    if (flags_.json) {
      list_.push_back(error ? nlohmann::json{{"error", ToJson(*error)}} : ToJson(*result));
      return;
    }
    std::cout << "--- request " << index
              << (result && !result->id.empty() ? " (" + result->id + ")" : "") << " ---\n";
    if (result) std::cout << result->text << std::endl;
    if (result && !flags_.engine.quiet) PrintStatistics(*result);
    if (result) WarnOfCutPrompt(*result);
    if (error) Report(*error, false);
  }

  int Finish() {
    if (flags_.json) PrintLine(list_);
    return exit_code_;
  }

 private:
  const GenerateFlags& flags_;
  nlohmann::json list_ = nlohmann::json::array();
  int exit_code_ = kDone;
};

// Nothing to run, so that no model needs to be loaded to say what is wrong.
bool AllBroken(const RequestFile& file) {
  for (const RequestOrError& item : file.items) {
    if (std::holds_alternative<ParsedRequest>(item)) return false;
  }
  return true;
}

int GenerateList(const RequestFile& file, const GenerateFlags& flags) {
  ListPrinter printer(flags);
  if (AllBroken(file)) {
    for (size_t i = 0; i < file.items.size(); ++i) printer.Print(i, std::get<Error>(file.items[i]));
    return printer.Finish();
  }
  Engine engine = LoadEngine(flags.engine);
  RunList(engine, file.items, static_cast<size_t>(flags.parallel.value_or(4)),
          [&printer](size_t index, const Outcome& outcome) { printer.Print(index, outcome); });
  // On stderr: with --json standard output is the array and nothing else.
  if (flags.engine.show_placement) std::cerr << Describe(engine.placement());
  return printer.Finish();
}

int Generate(const GenerateFlags& flags) {
  if (const std::optional<int> code = ServeWhereNotFirst(flags.engine)) return *code;
  WatchInterrupt();
  RequestFile file = ReadRequests(flags);
  for (RequestOrError& item : file.items) {
    if (ParsedRequest* parsed = std::get_if<ParsedRequest>(&item)) {
      ApplyFlags(flags.request, parsed->request);
    }
  }
  if (file.is_list) return GenerateList(file, flags);
  if (const Error* error = std::get_if<Error>(&file.items.front())) throw *error;
  Engine engine = LoadEngine(flags.engine);
  return GenerateOne(engine, std::get<ParsedRequest>(file.items.front()), flags);
}

}  // namespace

void AddGenerate(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("generate", "Answer one prompt, or the requests of a file");
  auto flags = std::make_shared<GenerateFlags>();
  command
      ->add_option_function<std::string>(
          "--prompt", [flags](const std::string& text) { flags->prompt = text; },
          "The question; <ImageHere> marks where pictures go")
      ->type_name("TEXT");
  command->add_option("--image", flags->images, "Picture for --prompt (may be repeated)")
      ->type_name("FILE");
  command
      ->add_option("--request", flags->request_file, "JSON file with one request or a list of them")
      ->type_name("FILE");
  command
      ->add_option("--image-root", flags->image_roots,
                   "Where a request's pictures are, before the file's own folder (may be repeated)")
      ->type_name("DIR");
  AddNumber<int64_t>(*command, "--parallel", flags->parallel, {1, 1024},
                     "Requests of a list in flight at once (default 4)");
  AddEngineFlags(*command, flags->engine);
  AddRequestFlags(*command, flags->request);
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return Generate(*flags); };
  });
}

}  // namespace xcomposer::cli
