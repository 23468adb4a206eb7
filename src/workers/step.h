#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "batch/batch.h"

namespace xcomposer {

/// A batch on its way through the stages. Const once it is on its way; the stages share it.
struct Step {
  uint64_t number = 0;  ///< from 1, in order of submission; the same on every rank
  Batch batch;  ///< its taps are not used; on ranks without the first stage the ids are zeros
  std::set<std::string> taps;  ///< intermediate tensors that somebody listens to
  /// What only the first stage's body understands: picture features that the batch refers to.
  std::shared_ptr<const void> first_stage_input;
};

using StepPtr = std::shared_ptr<const Step>;

}  // namespace xcomposer
