#pragma once

#include <map>
#include <string>
#include <vector>

#include "batch/executor.h"
#include "config/model_config.h"
#include "golden_case.h"

namespace xcomposer {

/// What an executor gives for a golden case.
struct GoldenRun {
  GoldenTensors taps;         ///< whole tensors of the prompt pass, chunks joined
  std::vector<float> logits;  ///< (steps, vocab), or of every prompt row for "forward"
  std::vector<int32_t> ids;   ///< chosen by argmax after the repetition penalty
};

/// The picture of a case as the vision tower takes it: the recorded pixels, or else the file
/// through the image processor.
Picture PictureOf(const GoldenCase& golden, size_t image, const ModelConfig& config);

/// Runs the prompt in chunks of at most limits().max_batch_rows and then one row at a time. Beam
/// cases are run for their first step only: the search belongs to the engine.
GoldenRun RunGolden(Executor& executor, const GoldenCase& golden, const ModelConfig& config);

}  // namespace xcomposer
