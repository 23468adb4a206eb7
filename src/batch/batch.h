#pragma once

#include <cstdint>
#include <functional>
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

/// The rows of one sequence in this batch.
struct SequenceSlice {
  int64_t first_row = 0;
  int64_t row_count = 0;
  int64_t position = 0;    ///< of its first row here = rows already in the cache
  double rope_base = 0.0;  ///< rotation of these rows (dynamic NTK), model specification 6.3
  Adapter adapter = Adapter::kBase;
  bool wants_logits = true;  ///< false for all but the last chunk of a prompt
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

struct Batch {
  std::vector<int32_t> ids;  ///< (T); the value at picture rows is not read
  std::vector<SequenceSlice> sequences;
  /// Also the rows that PLoRA applies to; ascending, no overlap.
  std::vector<FeatureSpan> features;
  std::vector<BlockCopy> copies;
  /// Logits of every row instead of the last row of each sequence ("forward").
  bool all_logits = false;
  TapSink taps;

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
};

/// float32 scores before any processor, (rows, vocab): one row per sequence with wants_logits, in
/// order (or one per batch row with all_logits).
struct Logits {
  int64_t rows = 0;
  int64_t vocab = 0;
  std::vector<float> values;
};

}  // namespace xcomposer
