#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>

#include "batch/batch.h"
#include "pipeline/stage.h"
#include "pipeline/step_graphs.h"

namespace xcomposer {

/// Steps in which every sequence has one row, over memory that stays where it is, so that their
/// launches can be recorded once and replayed: all that the stage does, from the ids on the first
/// stage to the chosen ids on the last one. Batches are filled up to the next power of two with
/// rows that are not in use. For one thread.
class DecodeSteps {
 public:
  /// `stage` and `recorder` must live longer; `host`: memory that the device copies to and from
  /// without a detour (StageDevice::host_options).
  DecodeSteps(Stage& stage, GraphRecorder& recorder, const at::TensorOptions& host);
  ~DecodeSteps();

  /// Whether a batch is such a step: one row for each of few sequences, and nothing but the base
  /// weights.
  bool Takes(const Batch& batch) const;

  /// Runs the stage's layers, -> (S, C). `given` (S, C): what the stage before computed; undefined
  /// on the first stage. All stages but the last.
  at::Tensor Run(const at::Tensor& given, const Batch& batch);

  /// The same on the last stage: as Stage::Score.
  Logits Score(const at::Tensor& given, const Batch& batch);

 private:
  struct Memory;  // what the launches of one shape read and write

  Memory& MemoryOf(const DecodeShape& shape);
  at::Tensor& ScoresOf(int64_t sequences);
  void Upload(Memory& memory, const Batch& batch) const;
  void Launch(Memory& memory);
  Memory& Step(const at::Tensor& given, const Batch& batch);

  Stage& stage_;
  const at::TensorOptions host_;
  std::map<DecodeShape, std::unique_ptr<Memory>> memory_;
  std::map<int64_t, at::Tensor> scores_;  // by number of sequences: (S, V) float32
  StepGraphs graphs_;
};

}  // namespace xcomposer
