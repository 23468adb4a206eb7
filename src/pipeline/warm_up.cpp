#include "pipeline/warm_up.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "config/rope.h"

namespace xcomposer {
namespace {

constexpr int64_t kMostSequences = 2;  // one row has kernels of its own, few rows have others

/// Rows of the first picture rows, then text, of sequences that have a block of the cache each or,
/// where there is one, as many as it needs.
Batch MadeUp(const Stage& stage, int64_t sequences, int64_t rows, int64_t picture_rows) {
  const KvShape& kv = stage.kv_shape();
  Batch batch;
  batch.ids.assign(static_cast<size_t>(sequences * rows), stage.config().bos_id);
  if (picture_rows > 0) batch.features.push_back({.first_row = 0, .row_count = picture_rows});
  const int64_t blocks = (rows + kv.block_size - 1) / kv.block_size;
  for (int64_t s = 0; s < sequences; ++s) {
    SequenceSlice slice;
    slice.first_row = s * rows;
    slice.row_count = rows;
    slice.rope_base = RopeBase(stage.config(), rows);
    slice.choice.emplace();
    for (int64_t block = 0; block < blocks; ++block) {
      slice.block_table.push_back(static_cast<int32_t>(s * blocks + block));
    }
    batch.sequences.push_back(std::move(slice));
  }
  return batch;
}

at::Tensor MadeUpRows(const Stage& stage, int64_t rows) {
  return at::zeros({rows, stage.config().hidden_size},
                   at::TensorOptions().dtype(at::kFloat).device(stage.device()));
}

}  // namespace

void WarmUp(Stage& stage, DecodeSteps& decode, int64_t rows, const at::TensorOptions& host) {
  const KvShape& kv = stage.kv_shape();
  rows = std::min(rows, kv.blocks * kv.block_size);
  at::Tensor features;  // (S, C)
  int64_t picture_rows = rows / 2;
  if (stage.range().first) {
    const int64_t side = stage.config().vision.tile;
    const std::vector<uint8_t> black(static_cast<size_t>(3 * side * side));
    features = stage.Encode({side, side, black});
    picture_rows = std::min(picture_rows, features.size(0));
  }
  const Batch prompt = MadeUp(stage, 1, rows, picture_rows);
  at::Tensor hidden = stage.range().first
                          ? stage.Embed(prompt, [&](FeatureHandle) { return features; })
                          : MadeUpRows(stage, rows);  // (T, C)
  stage.Run(hidden, prompt);
  if (stage.range().last) stage.Score(hidden, prompt, {}, host);
  for (int64_t count = 1; count <= std::min(kMostSequences, kv.blocks); ++count) {
    const Batch step = MadeUp(stage, count, 1, 0);
    const at::Tensor given = stage.range().first ? at::Tensor() : MadeUpRows(stage, count);
    if (!decode.Takes(step)) continue;
    if (stage.range().last) {
      decode.Score(given, step);
    } else {
      decode.Run(given, step);
    }
  }
}

}  // namespace xcomposer
