#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/limits.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {

/// What a *.index.json says: which shard holds which tensor.
struct ShardIndex {
  std::map<std::string, std::string> weight_map;  ///< tensor -> shard
  /// metadata.total_size, bytes of all tensors; absent too where it is no such number.
  std::optional<int64_t> total_size;

  /// The shards, each once, by name.
  std::vector<std::string> Shards() const;
};

/// Parses an index. Throws kCheckpoint naming `file` where it is no JSON of the expected form, maps
/// a tensor twice, names a shard that is not a plain file name (no folders, no "..", nothing
/// absolute), or names more than `limits.max_files` shards.
ShardIndex ParseShardIndex(std::string_view text, std::string_view file,
                           const CheckpointLimits& limits = {});

/// Compares an index with the tensors that its shards really hold (`tensor.file` indexes `shards`).
/// Throws one kCheckpoint that lists every tensor that is missing, in another shard, in two shards
/// or not in the index.
void RequireIndexed(const ShardIndex& index, const std::vector<std::string>& shards,
                    const std::vector<TensorEntry>& tensors, std::string_view file);

/// What is to be said where total_size is not the size of the tensors (shared bytes may be counted
/// once or each time). No fault: Hugging Face does not look at it, and the shards are complete
/// where RequireIndexed finds every tensor.
std::optional<std::string> TotalSizeNote(const ShardIndex& index,
                                         const std::vector<TensorEntry>& tensors);

}  // namespace xcomposer
