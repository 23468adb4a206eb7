#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/batch_part.h"
#include "engine/feature_cache.h"
#include "engine/job.h"
#include "engine/kv_blocks.h"
#include "engine/search.h"
#include "engine/tap_collector.h"

namespace xcomposer {

/// What all runs of a scheduler share. The pointers must live longer than the runs.
struct RunContext {
  BlockPool* blocks = nullptr;
  FeatureCache* features = nullptr;
  const std::function<double(int64_t)>* rope_base = nullptr;
  int64_t vocab = 0;
  bool chooses_ids = false;  ///< ExecutorLimits'
};

/// One job on its way: pictures, prompt, then id after id. All mutable state of a request is here
/// and goes with it. Who drives it decides how many rows run at once. Not thread-safe.
class JobRun {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws as Validate and MakeSearch do. Takes no blocks yet.
  JobRun(JobId id, Job job, Clock::time_point submitted, const RunContext& context);
  JobRun(const JobRun&) = delete;
  JobRun& operator=(const JobRun&) = delete;

  JobId id() const { return id_; }
  const Job& job() const { return job_; }
  int64_t prompt_rows() const { return static_cast<int64_t>(job_.ids.size()); }
  BlockDemand demand() const;

  /// Called once, when the blocks are granted.
  void Start();

  /// Pictures come before rows.
  bool HasPictures() const { return next_picture_ < job_.pictures.size(); }
  /// Throws as FeatureCache::Get.
  void EncodeNextPicture(const StopTest& stop);

  /// Rows that can be handed out now: all that follow from ids which are known.
  int64_t pending_rows() const;

  /// True while the prompt is handed out, and while all rows of the text path are computed anew.
  bool prefilling() const;

  /// True where somebody listens to the prompt's tensors: they must not be mixed with other rows.
  bool WantsBatchAlone() const { return job_.taps.wants && !prompt_done_; }

  /// True for kForward with `prefill_logits` wanted; only together with WantsBatchAlone.
  bool WantsAllLogits() const;
  TapSink PromptTaps() { return taps_.ForChunk(); }

  /// Hands out up to `budget` of the pending rows, with blocks to write to.
  std::vector<BatchPart> TakeRows(int64_t budget);

  /// The rows of `part` are in the cache; `logits` are (n, vocab), n = 1 where the part wanted
  /// them, or n = 0 and there is the id chosen by them.
  void Commit(const BatchPart& part, std::span<const float> logits, std::optional<int32_t> chosen);

  /// After the parts of one batch: takes the next step if all its scores are there.
  void Advance();

  /// Events since the last call, oldest first.
  std::vector<JobEvent> TakeEvents();

  /// Set when the run has come to its end by itself.
  const std::optional<JobFinish>& finish() const { return finish_; }

  /// Composes the result, with what a search that was interrupted has so far. The run is over then.
  JobResult Conclude(JobFinish finish);

  std::shared_ptr<const std::atomic<bool>> unwanted;  ///< the driver's: Mailbox::Letter's
  int64_t needed_blocks = 0;                          ///< the driver's: at most, at any moment
  int64_t reserved_blocks = 0;                        ///< the driver's: 0 until Start
  int64_t last_served = 0;  ///< the driver's: number of the last batch with rows of this run

 private:
  struct Sequence {
    std::vector<int32_t> ids;  // (rows), -1 at picture rows
    BlockTable blocks;
    int64_t handed_out = 0;  // rows in the cache or on their way into it
    int64_t computed = 0;    // rows in the cache
    double rope_base = 0;
    std::vector<float> scores = {};                // (vocab) of the last row, once computed
    std::optional<int32_t> chosen = std::nullopt;  // or the id that follows
  };

  BatchPart Slice(int64_t index, int64_t rows);
  /// Whether the executor may choose, and nobody wants to see the scores.
  bool ChoosesElsewhere() const;
  void BeginPass(Sequence* sequence);
  void FinishPrompt();
  SearchStep NextStep();
  void KeepScores(std::span<const float> scores);
  void Settle(const std::vector<int32_t>& ids);
  void Continue(const std::vector<Continuation>& next);
  void ReportProgress();

  JobId id_;
  Job job_;
  RunContext context_;
  std::unique_ptr<Search> search_;  // empty for kForward
  TapCollector taps_;
  std::vector<FeatureCache::Lease> features_;  // by picture
  size_t next_picture_ = 0;
  std::vector<Sequence> sequences_;
  bool prompt_done_ = false;
  std::optional<JobFinish> finish_;
  std::vector<JobEvent> events_;
  JobResult result_;
  Clock::time_point submitted_;
  Clock::time_point rows_began_;
  std::optional<Clock::time_point> first_id_;
  Clock::time_point last_id_;
  std::vector<double> steps_s_;  // from id to id
};

}  // namespace xcomposer
