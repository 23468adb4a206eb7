#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "batch/batch.h"

namespace xcomposer {

class JobRun;

/// The rows of one sequence in one batch, before it is known where in the batch they will stand.
struct BatchPart {
  JobRun* run = nullptr;
  int64_t sequence = 0;  ///< which of the run's sequences
  std::vector<int32_t> ids;
  SequenceSlice slice;                ///< first_row is set by Merge
  std::vector<FeatureSpan> features;  ///< first_row counts from the part's first row
  std::vector<BlockCopy> copies;
};

/// The parts laid end to end.
Batch Merge(std::span<const BatchPart> parts);

}  // namespace xcomposer
