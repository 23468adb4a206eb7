#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "batch/executor.h"
#include "workers/stage_body.h"

namespace xcomposer::testing {

/// When a stage worked on which step.
struct Span {
  int stage = 0;
  uint64_t step = 0;
  double begin_s = 0;
  double end_s = 0;
};

/// Of all stages of a run; thread-safe.
class Timeline {
 public:
  double Now() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  void Add(const Span& span) {
    const std::lock_guard lock(mutex_);
    spans_.push_back(span);
  }
  std::vector<Span> spans() const {
    const std::lock_guard lock(mutex_);
    return spans_;
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<Span> spans_;
};

/// A stage of one float a row, without a model: the first stage starts from the row's id, each
/// stage makes 3 x + its number of x and keeps the running total of the last row of every block in
/// a cache of its own, so that a batch that ran out of order, twice or not at all changes what
/// comes out. The score of token v is the row plus v.
class StandInStage final : public StageBody {
 public:
  StandInStage(int stage, int64_t vocab) : stage_(stage), vocab_(vocab) {}

  // Set before use.
  std::chrono::microseconds time{0};  ///< slept, so that stages overlap on any number of cores
  Timeline* timeline = nullptr;
  bool on_device = false;  ///< what it gives lies in a GPU's memory, or so it says
  bool chooses = false;    ///< the last stage: ids where they will do, from the choice's seed
  std::function<void(const Step&)> before_run;  ///< may throw or block

  Payload Run(const Step& step, Payload hidden, const TapSink& taps) override {
    const double begin = timeline == nullptr ? 0 : timeline->Now();
    if (before_run) before_run(step);
    if (time.count() > 0) std::this_thread::sleep_for(time);
    const int64_t rows = step.batch.rows();
    if (stage_ == 0) {
      hidden = Payload::Allocate(rows * static_cast<int64_t>(sizeof(float)));
      for (int64_t row = 0; row < rows; ++row) {
        Values(hidden)[row] = static_cast<float>(step.batch.ids[static_cast<size_t>(row)]);
      }
    }
    Check(hidden.size == rows * static_cast<int64_t>(sizeof(float)), "a stage was given ",
          hidden.size, " bytes for ", rows, " rows");
    for (int64_t row = 0; row < rows; ++row) {
      float& value = Values(hidden)[row];
      total_ = 0.5f * total_ + value;
      value = 3.0f * value + static_cast<float>(stage_) + 0.125f * total_;
    }
    const std::string name = StrCat("layer", stage_, ".out");
    if (taps.Wants(name)) {
      taps.put({name, {rows, 1}, {Values(hidden), Values(hidden) + rows}, {}});
    }
    if (timeline != nullptr) timeline->Add({stage_, step.number, begin, timeline->Now()});
    hidden.on_device = on_device;
    return hidden;
  }

  Logits Score(const Step& step, Payload given, const TapSink& taps) override {
    const Payload hidden = Run(step, std::move(given), taps);
    Logits logits;
    logits.vocab = vocab_;
    for (const SequenceSlice& slice : step.batch.sequences) {
      if (!slice.wants_logits) continue;
      const float value = Values(hidden)[slice.first_row + slice.row_count - 1];
      ++logits.rows;
      if (chooses && WantsIdsOnly(step.batch)) {
        logits.chosen.push_back(static_cast<int32_t>(slice.choice->seed % 5));
        continue;
      }
      for (int64_t v = 0; v < vocab_; ++v) {
        logits.values.push_back(value + static_cast<float>(v));
      }
    }
    return logits;
  }

 private:
  static float* Values(const Payload& payload) { return reinterpret_cast<float*>(payload.data); }

  const int stage_;
  const int64_t vocab_;
  float total_ = 0;
};

/// One sequence of `rows` rows at position 0.
inline Batch StandInBatch(int32_t first_id, int64_t rows = 3) {
  Batch batch;
  for (int64_t row = 0; row < rows; ++row) {
    batch.ids.push_back(first_id + static_cast<int32_t>(row));
  }
  SequenceSlice slice;
  slice.row_count = rows;
  slice.rope_base = 10000.0;
  for (int32_t block = 0; block * 4 < rows; ++block) slice.block_table.push_back(block);
  batch.sequences.push_back(slice);
  return batch;
}

inline ExecutorLimits StandInLimits(int stages) {
  return {.vocab = 5, .kv_blocks = 64, .block_size = 4, .max_batch_rows = 16, .stages = stages};
}

}  // namespace xcomposer::testing
