#include <iostream>
#include <memory>
#include <string>

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

struct ConvertFlags {
  std::string model;
  std::string out;
  std::string matrices = "stored";
  std::optional<int64_t> threads;
  std::optional<int64_t> max_shard_bytes;
  bool overwrite = false;
  bool quiet = false;
  bool json = false;
};

MatrixFormat FormatNamed(const std::string& matrices) {
  if (matrices == "bf12") return MatrixFormat::kBf12;
  return matrices == "bf16" ? MatrixFormat::kBFloat16 : MatrixFormat::kAsStored;
}

/// A line about the matrices; nothing where they were to stay.
std::string WhatBecame(const std::string& matrices, const ConvertSummary& summary) {
  if (matrices == "bf12") {
    const std::string kept =
        summary.kept == 0 ? ""
                          : "; " + std::to_string(summary.kept) +
                                " stayed as they are: their size or their numbers do not fit";
    return std::to_string(summary.packed) + " matrices in 12 bits a number" + kept + "\n";
  }
  if (matrices != "bf16") return "";
  if (summary.unpacked == 0) return "no matrix was in 12 bits: all types are what they were\n";
  return std::to_string(summary.unpacked) + " matrices are bfloat16 again\n";
}

int RunConvert(const ConvertFlags& flags) {
  WatchInterrupt();
  ConvertOptions options;
  options.matrices = FormatNamed(flags.matrices);
  options.threads = static_cast<int>(flags.threads.value_or(0));
  options.overwrite = flags.overwrite;
  if (flags.max_shard_bytes) options.max_shard_bytes = *flags.max_shard_bytes;
  ConvertSummary summary;
  {
    ProgressBar bar("writing", !flags.quiet);
    options.progress = [&bar](const ConvertProgress& progress) {
      if (Interrupted())
        throw Error(ErrorKind::kCancelled, "interrupted; the output is incomplete");
      bar.Update(progress.bytes_done, progress.bytes_total);
    };
    summary = Convert(flags.model, flags.out, options);
  }
  if (flags.json) {
    PrintLine({{"out", flags.out},
               {"tensors", summary.tensors},
               {"bytes", summary.bytes},
               {"matrices", flags.matrices},
               {"packed", summary.packed},
               {"kept", summary.kept},
               {"unpacked", summary.unpacked},
               {"files", summary.files}});
    return kDone;
  }
  std::cout << WhatBecame(flags.matrices, summary);
  std::cout << summary.tensors << " tensors, " << HumanBytes(summary.bytes) << " in " << flags.out
            << '\n';
  for (const std::string& file : summary.files) std::cout << "  " << file << '\n';
  return kDone;
}

}  // namespace

void AddConvert(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("convert", "Write a checkpoint as sharded safetensors, the same numbers");
  auto flags = std::make_shared<ConvertFlags>();
  AddModelFlag(*command, flags->model);
  command->add_option("--out", flags->out, "Folder to write")->required()->type_name("DIR");
  command
      ->add_option("--matrices", flags->matrices,
                   "The decoder's linears and the output matrix: stored (default), bf12 (bfloat16 "
                   "in 12 bits, exactly) or bf16 (bf12 as bfloat16 again)")
      ->check(CLI::IsMember({"stored", "bf12", "bf16"}))
      ->type_name("TYPE");
  AddNumber<int64_t>(*command, "--threads", flags->threads, {1, 4096},
                     "Threads to pack and unpack with");
  AddNumber<int64_t>(*command, "--max-shard-bytes", flags->max_shard_bytes, {1, int64_t{1} << 60},
                     "Largest file (default 5000000000)");
  command->add_flag("--overwrite", flags->overwrite, "Replace files that are there");
  command->add_flag("--quiet", flags->quiet, "No progress on stderr");
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return RunConvert(*flags); };
  });
}

}  // namespace xcomposer::cli
