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

/// All of them are in memory at once; the published ones have a few MB.
struct CompanionLimits {
  int64_t file_bytes = int64_t{64} << 20;
  int64_t total_bytes = int64_t{256} << 20;
};

/// The files that belong to the weights (*.json but indexes, *.model, *.txt), never code, by name.
/// Throws kCheckpoint with the file for what cannot be read or exceeds the limits.
std::map<std::string, std::string> ReadCompanions(const Checkpoint& checkpoint,
                                                  const CompanionLimits& limits = {});

/// Throws kUsage where `directory` is the checkpoint's own.
void RequireOtherDirectory(const Checkpoint& checkpoint, const std::filesystem::path& directory);

/// The tensor as it is stored, dense. `checkpoint` must live until it is written.
TensorSource SourceOf(const Checkpoint& checkpoint, const TensorEntry& entry);

/// What a changed checkpoint says beyond the one that it was made of.
struct CheckpointAdditions {
  std::map<std::string, std::string> metadata = {};
  std::map<std::string, std::string> texts = {};  ///< files beside the weights, by name
};

/// Writes `sources` in place of the checkpoint's tensors into `directory`, with its companions and
/// metadata and those that `additions` has. Throws as WriteSafetensors does, and kUsage where
/// `directory` is the checkpoint's own.
ConversionReport WriteInPlaceOf(const Checkpoint& checkpoint,
                                const std::vector<TensorSource>& sources,
                                const std::filesystem::path& directory,
                                const ConversionOptions& options,
                                const WriteProgressCallback& progress,
                                const CheckpointAdditions& additions = {});

/// Writes `checkpoint` into `directory` as safetensors, bit for bit and dtype for dtype: strided
/// tensors become dense, tensors that share bytes become separate ones. The companions come with
/// them.
/// Throws as WriteSafetensors does, and kUsage where `directory` is the checkpoint's own.
ConversionReport ConvertCheckpoint(
    const Checkpoint& checkpoint, const std::filesystem::path& directory,
    const ConversionOptions& options = {},
    const WriteProgressCallback& progress = [](const WriteProgress&) {});

}  // namespace xcomposer
