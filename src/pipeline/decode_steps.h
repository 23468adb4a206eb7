#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>

#include "batch/batch.h"
#include "pipeline/stage.h"
#include "pipeline/step_graphs.h"

namespace xcomposer {

/// Steps in which every sequence has one row, over memory that stays where it is, so that their
/// launches can be recorded once and replayed. Batches are filled up to the next power of two with
/// rows that are not in use. For one thread.
class DecodeSteps {
 public:
  /// `stage` and `recorder` must live longer.
  DecodeSteps(Stage& stage, GraphRecorder& recorder);
  ~DecodeSteps();

  /// Whether a batch is such a step: one row for each of few sequences, and nothing but the base
  /// weights.
  bool Takes(const Batch& batch) const;

  /// Runs the stage's layers over hidden (S, C), in place.
  void Run(at::Tensor& hidden, const Batch& batch);

 private:
  struct Memory;  // what the launches of one shape read and write

  Memory& MemoryOf(const DecodeShape& shape);

  Stage& stage_;
  std::map<DecodeShape, std::unique_ptr<Memory>> memory_;
  StepGraphs graphs_;
};

}  // namespace xcomposer
