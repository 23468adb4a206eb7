#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "config/model_config.h"

namespace xcomposer {

struct QuantisationReport {
  ConversionReport written;
  int64_t linears = 0;        ///< that were quantised, the output matrix among them
  double relative_error = 0;  ///< of their weights: root of (squared error / squares)
};

/// Writes `checkpoint`, whose configuration is `config`, into `directory` with the linears of its
/// decoder and its output matrix quantised as `asked` (the own layout) and everything else as it
/// is; adds quantize_config.json. An output matrix whose vocabulary does not fill panels stays too.
/// Memory: one linear, and the scales of those of one shard.
///
/// Throws kCheckpoint where the tensors are not those of `config` or cannot be quantised, kUsage
/// where they are quantised already or groups are asked for that do not hold blocks, and what
/// ConvertCheckpoint throws.
QuantisationReport QuantiseCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const Quantization& asked, int threads,
                                      const std::filesystem::path& directory,
                                      const ConversionOptions& options,
                                      const WriteProgressCallback& progress);

}  // namespace xcomposer
