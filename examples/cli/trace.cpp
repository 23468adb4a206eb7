#include <algorithm>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "interrupt.h"
#include "number_option.h"
#include "output.h"
#include "request_json.h"
#include "row_list.h"
#include "safetensors_writer.h"

namespace xcomposer::cli {
namespace {

struct TraceFlags {
  EngineFlags engine;
  RequestFlags request;
  std::string request_file;
  std::vector<std::string> image_roots;
  std::optional<int64_t> index;
  std::string out;
  std::vector<std::string> taps;
  std::string rows;
  bool json = false;
};

ParsedRequest ReadRequest(const TraceFlags& flags) {
  RequestFile file =
      ReadRequestFile(flags.request_file, {flags.image_roots.begin(), flags.image_roots.end()});
  const size_t index = static_cast<size_t>(flags.index.value_or(0));
  if (file.items.size() != 1 && !flags.index) {
    throw Error(ErrorKind::kUsage, "the file holds " + std::to_string(file.items.size()) +
                                       " requests and trace runs one; --index chooses it, from 0");
  }
  if (index >= file.items.size()) {
    throw Error(ErrorKind::kUsage, "--index " + std::to_string(index) + ": the file holds " +
                                       std::to_string(file.items.size()) + " requests");
  }
  if (const Error* error = std::get_if<Error>(&file.items[index])) throw *error;
  ParsedRequest parsed = std::get<ParsedRequest>(std::move(file.items[index]));
  ApplyFlags(flags.request, parsed.request);
  return parsed;
}

// Tensors whose first dimension is the merged sequence; --rows narrows these.
bool IsIndexedByRows(const std::string& name) {
  return name == "inputs_embeds" || name == "im_mask" || name == "final_norm.out" ||
         name == "prefill_logits" || name.rfind("layer", 0) == 0;
}

template <typename T>
std::vector<T> TakeRows(const std::vector<T>& values, const std::vector<int64_t>& rows,
                        int64_t length) {
  const int64_t width = length == 0 ? 0 : static_cast<int64_t>(values.size()) / length;
  std::vector<T> taken;
  taken.reserve(rows.size() * static_cast<size_t>(width));
  for (const int64_t row : rows) {
    taken.insert(taken.end(), values.begin() + row * width, values.begin() + (row + 1) * width);
  }
  return taken;
}

// Takes tensors as the engine hands them over. The engine's code lies below these calls on the
// stack, so an error is kept and thrown after it has returned.
class TraceFile {
 public:
  explicit TraceFile(const TraceFlags& flags) : writer_(flags.out) {
    if (!flags.rows.empty()) rows_ = RowList::Parse(flags.rows);
  }

  void Take(TraceTensor&& tensor) noexcept {
    if (failure_) return;
    try {
      Write(std::move(tensor));
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  const std::vector<WrittenTensor>& Finish() {
    if (failure_) std::rethrow_exception(failure_);
    std::map<std::string, std::string> metadata;
    if (rows_) metadata["rows"] = rows_text_;
    writer_.Finish(metadata);
    return writer_.tensors();
  }

 private:
  void Write(TraceTensor&& tensor) {
    if (rows_ && !tensor.shape.empty() && IsIndexedByRows(tensor.name)) Narrow(tensor);
    if (tensor.bytes.empty() && !tensor.values.empty()) {
      writer_.Add(tensor.name, tensor.shape, tensor.values);
    } else if (tensor.name == "im_mask" || !tensor.bytes.empty()) {
      writer_.Add(tensor.name, tensor.shape, tensor.bytes);
    } else {
      writer_.Add(tensor.name, tensor.shape, tensor.values);
    }
  }

  void Narrow(TraceTensor& tensor) {
    const int64_t length = tensor.shape.front();
    const std::vector<int64_t> rows = rows_->Resolve(length);
    if (tensor.bytes.empty()) {
      tensor.values = TakeRows(tensor.values, rows, length);
    } else {
      tensor.bytes = TakeRows(tensor.bytes, rows, length);
    }
    tensor.shape.front() = static_cast<int64_t>(rows.size());
    std::string text;
    for (const int64_t row : rows) text += (text.empty() ? "" : ",") + std::to_string(row);
    rows_text_ = text;
  }

  SafetensorsWriter writer_;
  std::optional<RowList> rows_;
  std::string rows_text_;  // the rows as numbers from 0
  std::exception_ptr failure_;
};

void PrintTrace(const std::vector<WrittenTensor>& tensors, const Result& result,
                const PlacementReport& placement, const TraceFlags& flags) {
  if (flags.json) {
    nlohmann::json object = ToJson(result);
    if (flags.engine.show_placement) object["placement_report"] = ToJson(placement);
    object["out"] = flags.out;
    object["tensors"] = nlohmann::json::array();
    for (const WrittenTensor& tensor : tensors) {
      object["tensors"].push_back(
          {{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}});
    }
    PrintLine(object);
    return;
  }
  std::cout << (flags.engine.show_placement ? Describe(placement) : Describe(result.placement));
  for (const WrittenTensor& tensor : tensors) {
    std::cout << tensor.name << "  " << tensor.dtype << " (";
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      std::cout << (i ? ", " : "") << tensor.shape[i];
    std::cout << ")\n";
  }
  if (!result.text.empty()) std::cout << "answer: " << result.text << '\n';
  std::cout << "ended by: " << ToString(result.finish_reason) << '\n';
  std::cout << "written to " << flags.out << std::endl;
}

// A misspelt name would otherwise go unnoticed; a name of another request's tensor is no error.
void WarnOfAbsentTaps(const std::vector<WrittenTensor>& tensors,
                      const std::vector<std::string>& taps) {
  for (const std::string& tap : taps) {
    const bool written =
        std::any_of(tensors.begin(), tensors.end(),
                    [&](const WrittenTensor& tensor) { return tensor.name == tap; });
    if (!written) std::cerr << "warning: this run has no tensor '" << tap << "'\n";
  }
}

void WarnOfDeadline(const Result& result) {
  if (result.finish_reason != FinishReason::kDeadline) return;
  std::cerr
      << "warning: the deadline passed before the request was done; the file holds what there "
         "was by then\n";
}

int RunTrace(const TraceFlags& flags) {
  if (const std::optional<int> code = ServeWhereNotFirst(flags.engine)) return *code;
  WatchInterrupt();
  RequireNoneOf(flags.out, {flags.request_file, flags.engine.device_map});
  const ParsedRequest parsed = ReadRequest(flags);
  TraceFile file(flags);
  Engine engine = LoadEngine(flags.engine);
  TraceOptions options;
  options.forward_only = parsed.forward;
  options.taps = flags.taps;
  options.stop = [] { return Interrupted(); };
  const Result result = engine.Trace(
      parsed.request, options, [&file](TraceTensor&& tensor) { file.Take(std::move(tensor)); });
  if (result.finish_reason == FinishReason::kCancelled) {
    throw Error(ErrorKind::kCancelled,
                "interrupted before the request was done; nothing is written",
                {{"file", flags.out}});
  }
  const std::vector<WrittenTensor>& tensors = file.Finish();
  if (!flags.engine.quiet) WarnOfAbsentTaps(tensors, flags.taps);
  WarnOfCutPrompt(result);
  WarnOfDeadline(result);
  PrintTrace(tensors, result, engine.placement(), flags);
  return kDone;
}

}  // namespace

void AddTrace(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("trace", "Run one request and write its intermediate tensors");
  auto flags = std::make_shared<TraceFlags>();
  command->add_option("--request", flags->request_file, "JSON file with the request")
      ->required()
      ->type_name("FILE");
  AddNumber<int64_t>(*command, "--index", flags->index, {0, int64_t{1} << 30},
                     "Which request of a list, from 0");
  command
      ->add_option(
          "--image-root", flags->image_roots,
          "Where the request's pictures are, before the file's own folder (may be repeated)")
      ->type_name("DIR");
  command->add_option("--out", flags->out, "The .safetensors file to write")
      ->required()
      ->check(FileName)
      ->type_name("FILE");
  command->add_option("--taps", flags->taps, "Only these tensors, for example logits,layer0.out")
      ->delimiter(',')
      ->type_name("LIST");
  command
      ->add_option("--rows", flags->rows,
                   "Only these positions of the merged sequence, for example 0-7,-8--1")
      ->type_name("LIST");
  AddEngineFlags(*command, flags->engine);
  AddRequestFlags(*command, flags->request);
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunTrace(*flags); };
  });
}

}  // namespace xcomposer::cli
