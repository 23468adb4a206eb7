#include <iostream>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "interrupt.h"
#include "number_option.h"
#include "output.h"
#include "progress_bar.h"
#include "xcomposer/checkpoint.h"

namespace xcomposer::cli {
namespace {

struct QuantizeFlags {
  std::string model;
  std::string out;
  std::string weights;
  std::optional<int64_t> group_size;
  std::optional<int64_t> threads;
  std::optional<int64_t> max_shard_bytes;
  bool overwrite = false;
  bool quiet = false;
  bool json = false;
};

QuantizeSummary Run(const QuantizeFlags& flags) {
  QuantizeOptions options;
  options.bits = flags.weights == "int4" ? 4 : 8;
  options.group_size = flags.group_size.value_or(0);
  options.threads = static_cast<int>(flags.threads.value_or(0));
  options.overwrite = flags.overwrite;
  if (flags.max_shard_bytes) options.max_shard_bytes = *flags.max_shard_bytes;
  ProgressBar bar("quantising", !flags.quiet);
  options.progress = [&bar](const ConvertProgress& progress) {
    if (Interrupted()) throw Error(ErrorKind::kCancelled, "interrupted; the output is incomplete");
    bar.Update(progress.bytes_done, progress.bytes_total);
  };
  return Quantize(flags.model, flags.out, options);
}

int RunQuantize(const QuantizeFlags& flags) {
  WatchInterrupt();
  const QuantizeSummary summary = Run(flags);
  if (flags.json) {
    PrintLine({{"out", flags.out},
               {"weights", flags.weights},
               {"linears", summary.linears},
               {"relative_error", summary.relative_error},
               {"bytes_before", summary.bytes_before},
               {"tensors", summary.written.tensors},
               {"bytes", summary.written.bytes},
               {"files", summary.written.files}});
    return kDone;
  }
  std::cout << summary.linears << " matrices quantised, the decoder's linears to " << flags.weights
            << " and the output matrix, where its size allows it, to int8; relative error of all "
            << "their weights " << summary.relative_error << '\n'
            << HumanBytes(summary.bytes_before) << " became " << HumanBytes(summary.written.bytes)
            << " in " << flags.out << '\n';
  for (const std::string& file : summary.written.files) std::cout << "  " << file << '\n';
  return kDone;
}

/// What `--weights` of other commands takes and this one does not.
std::string NotWritten(const std::string& weights) {
  if (weights != "bf12") return "";
  return "bf12 rounds nothing: `convert --matrices bf12` writes it; expected int8 or int4";
}

}  // namespace

void AddQuantize(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "quantize",
      "Write a checkpoint with the decoder's linears in 8 or 4 bits and the output matrix in 8");
  auto flags = std::make_shared<QuantizeFlags>();
  AddModelFlag(*command, flags->model);
  command->add_option("--out", flags->out, "Folder to write")->required()->type_name("DIR");
  command->add_option("--weights", flags->weights, "int8 or int4")
      ->required()
      ->check(CLI::Validator(NotWritten, ""))
      ->check(CLI::IsMember({"int8", "int4"}))
      ->type_name("TYPE");
  AddNumber<int64_t>(
      *command, "--group-size", flags->group_size, {8, int64_t{1} << 20},
      "Inputs of the decoder's linears that share a scale, a multiple of 128 for int8 (default "
      "128), of 32 for int4 (default 32), or at least a row's inputs for whole rows");
  AddNumber<int64_t>(*command, "--threads", flags->threads, {1, 4096}, "Threads to compute with");
  AddNumber<int64_t>(*command, "--max-shard-bytes", flags->max_shard_bytes, {1, int64_t{1} << 60},
                     "Largest file (default 5000000000)");
  command->add_flag("--overwrite", flags->overwrite, "Replace files that are there");
  command->add_flag("--quiet", flags->quiet, "No progress on stderr");
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunQuantize(*flags); };
  });
}

}  // namespace xcomposer::cli
