#pragma once

#include <cstdint>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "config/model_config.h"

namespace xcomposer {

struct PackingReport {
  ConversionReport written;
  int64_t packed = 0;    ///< linears that are in 12 bits now
  int64_t kept = 0;      ///< linears that are not: their size or their numbers do not fit
  int64_t unpacked = 0;  ///< linears that were in 12 bits and are bfloat16 now
};

/// Writes `checkpoint`, whose configuration is `config`, into `directory` with the linears of its
/// decoder and its output matrix in 12 bits a number (ops::PackBf12) and everything else as it is.
/// Every number stays what it is: UnpackCheckpoint brings back the same tensors. Each matrix is
/// packed twice, since the header of a file counts outliers. Memory: one matrix, and the outliers
/// of all.
///
/// Throws kCheckpoint where the tensors are not those of `config`, kUsage where they are quantised
/// or a linear of fitting size is not bfloat16, and what ConvertCheckpoint throws.
PackingReport PackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                             const std::filesystem::path& directory,
                             const ConversionOptions& options,
                             const WriteProgressCallback& progress);

/// Writes `checkpoint` with every linear that is in 12 bits as bfloat16 again. Memory: one matrix.
/// Throws kCheckpoint where the tensors are not those of `config`, and what ConvertCheckpoint
/// throws.
PackingReport UnpackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                               const std::filesystem::path& directory,
                               const ConversionOptions& options,
                               const WriteProgressCallback& progress);

}  // namespace xcomposer
