#include <iostream>
#include <map>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "interrupt.h"
#include "output.h"
#include "progress_bar.h"
#include "xcomposer/checkpoint.h"

namespace xcomposer::cli {
namespace {

using nlohmann::json;

struct InspectFlags {
  std::string model;
  std::string kind;
  bool tensors = false;
  bool verify = false;
  bool json = false;
};

std::map<std::string, int64_t> TensorsPerType(const CheckpointReport& report) {
  std::map<std::string, int64_t> counts;
  for (const TensorInfo& tensor : report.tensors) ++counts[tensor.dtype];
  return counts;
}

Error Faults(const CheckpointReport& report) {
  return Error(ErrorKind::kCheckpoint,
               "the tensors are not those that config.json implies: " +
                   std::to_string(report.missing.size()) + " missing, " +
                   std::to_string(report.unexpected.size()) + " unexpected, " +
                   std::to_string(report.mismatched.size()) + " of another shape",
               {{"file", report.path}});
}

json ToJson(const CheckpointReport& report) {
  json files = json::array();
  for (const CheckpointFile& file : report.files) {
    files.push_back({{"name", file.name}, {"format", file.format}, {"bytes", file.bytes}});
  }
  json tensors = json::array();
  for (const TensorInfo& tensor : report.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"file", tensor.file},
                       {"bytes", tensor.bytes}});
  }
  json object = {{"path", report.path},
                 {"kind", report.kind},
                 {"layers", report.layers},
                 {"hidden", report.hidden},
                 {"vocab", report.vocab},
                 {"quantization", report.quantization},
                 {"parameters", report.parameters},
                 {"bytes", report.bytes},
                 {"dtypes", TensorsPerType(report)},
                 {"files", files},
                 {"tensors", tensors},
                 {"missing", report.missing},
                 {"unexpected", report.unexpected},
                 {"unused", report.unused},
                 {"mismatched", report.mismatched},
                 {"notes", report.notes},
                 {"ok", report.ok()}};
  if (!report.ok()) object["error"] = cli::ToJson(Faults(report));
  return object;
}

void PrintNames(const std::string& heading, const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::cout << heading << " (" << names.size() << ")\n";
  for (const std::string& name : names) std::cout << "  " << name << '\n';
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "scalar" : text;
}

void Print(const CheckpointReport& report, bool with_tensors) {
  std::cout << "path        " << report.path << '\n'
            << "kind        " << (report.kind.empty() ? "unknown" : report.kind) << '\n'
            << "quantised   " << (report.quantization.empty() ? "unknown" : report.quantization)
            << '\n'
            << "sizes       " << report.layers << " layers, hidden " << report.hidden << ", "
            << report.vocab << " pieces\n"
            << "parameters  " << report.parameters << " in " << report.tensors.size()
            << " tensors, " << HumanBytes(report.bytes) << '\n';
  std::cout << "types      ";
  for (const auto& [type, count] : TensorsPerType(report))
    std::cout << ' ' << type << " (" << count << ")";
  std::cout << "\nfiles\n";
  for (const CheckpointFile& file : report.files) {
    std::cout << "  " << file.name << "  " << file.format << "  " << HumanBytes(file.bytes) << '\n';
  }
  if (with_tensors) {
    std::cout << "tensors\n";
    for (const TensorInfo& tensor : report.tensors) {
      std::cout << "  " << tensor.name << "  " << tensor.dtype << "  " << ShapeText(tensor.shape)
                << '\n';
    }
  }
  PrintNames("missing", report.missing);
  PrintNames("unexpected", report.unexpected);
  PrintNames("of another shape", report.mismatched);
  for (const std::string& note : report.notes) std::cout << "note: " << note << '\n';
  std::cout << (report.ok() ? "complete: every tensor is there with its shape"
                            : "NOT usable as it is")
            << std::endl;
}

void ThrowIfInterrupted() {
  if (Interrupted()) throw Error(ErrorKind::kCancelled, "interrupted while reading the checkpoint");
}

CheckpointDigest ReadAll(const InspectFlags& flags) {
  ProgressBar bar("reading", !flags.json);
  return Digest(flags.model, [&bar](const DigestProgress& progress) {
    ThrowIfInterrupted();
    bar.Update(progress.bytes_done, progress.bytes_total);
  });
}

json ToJson(const CheckpointDigest& digest) {
  json files = json::object();
  for (const FileDigest& file : digest.files) files[file.name] = file.sha256;
  return {{"sha256", files}, {"fingerprint", digest.fingerprint}};
}

void Print(const CheckpointDigest& digest) {
  for (const FileDigest& file : digest.files) {
    std::cout << file.sha256 << "  " << file.name << '\n';
  }
  std::cout << "fingerprint " << digest.fingerprint << std::endl;
}

int RunInspect(const InspectFlags& flags) {
  WatchInterrupt();
  const CheckpointReport report = Inspect(flags.model, flags.kind);
  ThrowIfInterrupted();
  if (flags.json) {
    json object = ToJson(report);
    if (flags.verify) object.update(ToJson(ReadAll(flags)));
    PrintLine(object);
  } else {
    Print(report, flags.tensors);
    if (flags.verify) Print(ReadAll(flags));
    if (!report.ok()) Report(Faults(report), false);
  }
  return report.ok() ? kDone : kBadCheckpoint;
}

}  // namespace

void AddInspect(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show what a checkpoint holds and lacks; reads headers only");
  auto flags = std::make_shared<InspectFlags>();
  AddModelFlag(*command, flags->model);
  command->add_option("--kind", flags->kind, "Compare with this kind instead of the detected one")
      ->type_name("KIND");
  command->add_flag("--tensors", flags->tensors, "List every tensor (--json always does)");
  command->add_flag("--verify", flags->verify,
                    "Read every byte of the weights and print their SHA-256");
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunInspect(*flags); };
  });
}

}  // namespace xcomposer::cli
