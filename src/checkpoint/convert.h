#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"

namespace xcomposer {

struct ConversionOptions {
  int64_t max_shard_bytes = 5'000'000'000;  ///< tensor bytes of one file
  bool overwrite = false;                   ///< write into a directory that is not empty
};

struct ConversionReport {
  std::vector<std::filesystem::path> weights;  ///< written: safetensors, then the index if any
  std::vector<std::filesystem::path> texts;    ///< configuration and tokenizer files
  int64_t tensors = 0;
  int64_t bytes = 0;  ///< of all tensors
};

/// The files that belong to the weights (*.json but indexes, *.model, *.txt), never code, by name.
/// Throws kCheckpoint for what cannot be read, or has more than 1 GiB.
std::map<std::string, std::string> ReadCompanions(const Checkpoint& checkpoint);

/// Throws kUsage where `directory` is the checkpoint's own.
void RequireOtherDirectory(const Checkpoint& checkpoint, const std::filesystem::path& directory);

/// Writes `checkpoint` into `directory` as safetensors, bit for bit and dtype for dtype: strided
/// tensors become dense, tensors that share bytes become separate ones. The companions come with
/// them.
/// Throws as WriteSafetensors does, and kUsage where `directory` is the checkpoint's own.
ConversionReport ConvertCheckpoint(
    const Checkpoint& checkpoint, const std::filesystem::path& directory,
    const ConversionOptions& options = {},
    const WriteProgressCallback& progress = [](const WriteProgress&) {});

}  // namespace xcomposer
