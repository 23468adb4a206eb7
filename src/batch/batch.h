#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

/// The unit of work below the engine: the rows of several sequences laid end to end, never padded.
/// Plain data of standard types, so that the engine, the pipeline and a stand-in model in a test
/// speak of the same thing without LibTorch.
namespace xcomposer {

/// Half-open range of rows.
struct RowSpan {
  int64_t begin = 0;
  int64_t end = 0;
};

/// Names the features of one encoded picture; valid until released.
using FeatureHandle = int64_t;

/// Rows of the batch that come from a picture instead of from token ids.
struct FeatureSpan {
  int64_t first_row = 0;  ///< in the batch
  int64_t row_count = 0;
  FeatureHandle feature = 0;
  int64_t feature_row = 0;  ///< first row taken of the picture's features
};

/// The low-rank adapters of 2.5 that a request selects; the other kinds know only kBase.
enum class Adapter { kBase, kWeb, kWrite };

/// How the id behind a row follows from the row's scores alone: greedy search or sampling as the
/// engine does them (engine/score_processors.h, engine/sampler.h), in float32.
struct IdChoice {
  std::vector<int32_t> seen = {};  ///< the ids that the penalty applies to, each once
  float repetition_penalty = 1.0f;
  bool do_sample = false;  ///< false: the largest score, of equal ones the smallest id
  float temperature = 1.0f;
  int64_t top_k = 0;          ///< 0: no limit
  float dropped_mass = 0.0f;  ///< 1 - top_p
  uint64_t seed = 0;
  uint64_t step = 0;  ///< numbers the draw

  /// Whether the numbers can be computed with; says nothing of `seen`.
  bool IsSound() const {
    return std::isfinite(repetition_penalty) && repetition_penalty >= 0 &&
           std::isfinite(temperature) && temperature >= 0 && top_k >= 0 && dropped_mass >= 0 &&
           dropped_mass <= 1;
  }
};

/// The rows of one sequence in this batch.
struct SequenceSlice {
  int64_t first_row = 0;
  int64_t row_count = 0;
  int64_t position = 0;    ///< of its first row here = rows already in the cache
  double rope_base = 0.0;  ///< rotation of these rows (dynamic NTK), model specification 6.3
  Adapter adapter = Adapter::kBase;
  bool wants_logits = true;  ///< false for all but the last chunk of a prompt
  /// Where nobody needs the scores but to choose by them.
  std::optional<IdChoice> choice = std::nullopt;
  /// Physical KV blocks that hold positions 0 .. position + row_count.
  std::vector<int32_t> block_table;
};

/// Copies one KV block before the batch runs (copy on write after a fork).
struct BlockCopy {
  int32_t from = 0;
  int32_t to = 0;
};

/// An intermediate tensor on its way to the caller: row-major, float32 unless `bytes` says uint8.
struct Tap {
  std::string name;  ///< as in the command line's `trace`, for example layer0.out
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::vector<uint8_t> bytes;  ///< used instead of `values` for uint8 tensors
};

/// Receives intermediate tensors. Empty functions mean that nobody listens.
struct TapSink {
  std::function<bool(const std::string& name)> wants;
  std::function<void(Tap&&)> put;

  bool Wants(const std::string& name) const { return wants && wants(name); }
};

/// Whether nobody wants the result any more. Asked now and then by work that takes long, on the
/// thread that works. Empty: somebody does.
using StopTest = std::function<bool()>;

struct Batch {
  std::vector<int32_t> ids;  ///< (T); the value at picture rows is not read
  std::vector<SequenceSlice> sequences;
  /// Also the rows that PLoRA applies to; ascending, no overlap.
  std::vector<FeatureSpan> features;
  std::vector<BlockCopy> copies;
  /// Logits of every row instead of the last row of each sequence ("forward").
  bool all_logits = false;
  TapSink taps;
  /// Where it says so the batch may end with kCancelled; its rows in the cache then hold anything.
  StopTest stop;

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
};

/// Whether ids would do instead of scores: every row that wants scores says how to choose.
inline bool WantsIdsOnly(const Batch& batch) {
  return !batch.all_logits &&
         std::all_of(batch.sequences.begin(), batch.sequences.end(), [](const auto& sequence) {
           return !sequence.wants_logits || sequence.choice.has_value();
         });
}

/// float32 scores before any processor, (rows, vocab): one row per sequence with wants_logits, in
/// order (or one per batch row with all_logits).
struct Logits {
  int64_t rows = 0;
  int64_t vocab = 0;
  std::vector<float> values = {};
  /// (rows) instead of values where the executor chose the ids itself, which it may do for a batch
  /// that WantsIdsOnly: each is the one that the engine would choose by the scores.
  std::vector<int32_t> chosen = {};
};

}  // namespace xcomposer
