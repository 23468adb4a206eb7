#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/shard_index.h"

namespace xcomposer {

/// Which files hold the weights of a directory.
struct WeightFileChoice {
  WeightFormat format = WeightFormat::kSafetensors;
  std::vector<std::string> files;  ///< names inside the directory; the shards in order, or one file
  std::optional<std::string> index;  ///< the name of the *.index.json that lists them
  ShardIndex shard_index;            ///< its content
};

/// Chooses them by the rule that Checkpoint::Open states. Reads names and at most one index, no
/// weights.
WeightFileChoice ChooseWeightFiles(const std::filesystem::path& directory,
                                   const CheckpointLimits& limits);

}  // namespace xcomposer
