#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "batch/picture.h"
#include "engine/search_options.h"
#include "engine/text_stream.h"
#include "xcomposer/error.h"

/// What goes into the scheduler and what comes out, in ids and pixels: no text, no files.
namespace xcomposer {

/// Never used twice by one scheduler.
using JobId = int64_t;

/// Rows of the prompt that come from a picture.
struct PictureSpan {
  int64_t first_row = 0;  ///< in Job::ids
  int64_t row_count = 0;  ///< fewer than the picture's rows where the prompt was cut
  int64_t picture = 0;    ///< index into Job::pictures
};

enum class JobCall {
  kChat,     ///< prompt, then new ids
  kForward,  ///< the prompt once, nothing is generated
};

struct Job {
  std::string id;  ///< the caller's own name for it, repeated in errors; may be empty

  std::vector<int32_t> ids;        ///< (T) the merged prompt, -1 at picture rows
  std::vector<PictureSpan> spans;  ///< ascending, no overlap, exactly the -1 rows
  std::vector<std::shared_ptr<const Picture>> pictures;

  /// What the processors and the length rule of beam search see before the first new id: one dummy
  /// BOS, or the whole prompt on the text path (model specification 8.6).
  std::vector<int32_t> penalty_ids;

  /// The reference runs this prompt without a cache: where dynamic NTK changes the rotation from
  /// step to step, all rows are computed anew (model specification 6.3 c). Elsewhere it makes no
  /// difference.
  bool text_path = false;

  Adapter adapter = Adapter::kBase;
  JobCall call = JobCall::kChat;
  SearchOptions search;
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::unique_ptr<TextStream> text;  ///< empty: ids only
  bool wants_progress = false;       ///< kProgress events while pictures and prompt are worked on

  /// Intermediate tensors: image<i>.*, then those of the prompt pass by the executor's names, then
  /// `prefill_logits` (T, vocab) of kForward, or `logits` (steps, vocab), with beams (steps, beams,
  /// vocab), before any processor. Called on the scheduler's thread. A job that wants the prompt's
  /// tensors has that pass to itself.
  TapSink taps;
};

enum class JobFinish {
  kStop,       ///< a stop id or a stop string
  kLength,     ///< max_new_tokens; also the end of kForward
  kCancelled,  ///< with the ids chosen so far
  kDeadline,   ///< likewise
};

/// "stop", "length", "cancelled", "deadline".
const char* ToString(JobFinish finish);

/// Seconds of wall-clock time, other requests' share of the batches included.
struct JobTimings {
  double queue_s = 0;
  double image_s = 0;
  double prefill_s = 0;     ///< from the end of the pictures to the first new id
  double decode_s = 0;      ///< from the first new id to the last
  double step_s = 0;        ///< median from one new id to the next; 0 where there are none
  double tokens_per_s = 0;  ///< ids after the first, per decode second; 0 where there are none
};

struct JobResult {
  std::vector<int32_t> output_ids;  ///< new ids with the end id, if one came
  std::string text;
  JobFinish finish = JobFinish::kLength;
  int64_t prompt_rows = 0;
  int64_t image_rows = 0;
  uint64_t seed = 0;
  std::optional<double> sequence_score;  ///< beam search: the winner's normalised score
  JobTimings timings;
};

struct JobEvent {
  enum class Kind {
    kProgress,  ///< `rows_done` of `rows_total` prompt rows
    kOutput,    ///< `ids` and `text`, which may be empty
    kDone,      ///< `result`; the last event
    kError,     ///< `error`; the last event
  };

  JobId job = 0;
  Kind kind = Kind::kOutput;
  int64_t rows_done = 0;
  int64_t rows_total = 0;
  std::vector<int32_t> ids;
  std::string text;
  std::optional<JobResult> result;
  std::optional<Error> error;

  bool last() const { return kind == Kind::kDone || kind == Kind::kError; }
};

}  // namespace xcomposer
