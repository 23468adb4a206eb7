#include "pipeline/stage.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/check.h"
#include "config/weight_names.h"
#include "model/tap.h"

namespace xcomposer {
namespace {

// Rows scored at a time where all rows are wanted; bounds the copy of scores beside the result.
constexpr int64_t kScoreRows = 64;

bool Holds(const StageRange& range, const WeightSpec& spec) {
  switch (spec.part) {
    case Part::kLayer:
      return spec.layer >= range.first_layer && spec.layer < range.end_layer;
    case Part::kNorm:
    case Part::kOutput:
      return range.last;
    default:
      return range.first;
  }
}

/// The batch rows whose scores are wanted.
std::vector<int64_t> ScoredRows(const Batch& batch) {
  std::vector<int64_t> rows;
  if (batch.all_logits) {
    for (int64_t row = 0; row < batch.rows(); ++row) rows.push_back(row);
    return rows;
  }
  for (const SequenceSlice& sequence : batch.sequences) {
    if (sequence.wants_logits) rows.push_back(sequence.first_row + sequence.row_count - 1);
  }
  return rows;
}

}  // namespace

Stage::Stage(const ModelConfig& config, StageRange range, WeightSource& weights, KvShape kv,
             const at::TensorOptions& options)
    : config_(config),
      range_(range),
      device_(options.device()),
      cache_(config, range.end_layer - range.first_layer, kv, options) {
  const WeightScope root(weights);
  if (range.first) {
    vision_.emplace(config, root);
    tok_embeddings_.emplace(config, root.Sub("model.tok_embeddings"));
  }
  for (int64_t n = range.first_layer; n < range.end_layer; ++n) {
    layers_.emplace_back(config, root.Sub("model.layers." + std::to_string(n)));
  }
  if (range.last) head_.emplace(config, root);
  std::vector<std::string> names;
  for (const WeightSpec& spec : WeightTable(config)) {
    if (Holds(range, spec)) names.push_back(spec.name);
  }
  weights.RequireTaken(names);
}

at::Tensor Stage::Encode(const Picture& picture, const std::string& tap_prefix,
                         const TapSink& taps) const {
  Check(vision_.has_value(), "a picture for a stage without a vision tower");
  return vision_->Encode(picture, device_, tap_prefix, taps);
}

at::Tensor Stage::Embed(const Batch& batch,
                        const std::function<at::Tensor(FeatureHandle)>& features,
                        const TapSink& taps) const {
  Check(tok_embeddings_.has_value(), "token ids for a stage without embeddings");
  at::Tensor hidden = tok_embeddings_->Forward(batch, features);  // (T, C)
  PutTap(taps, "inputs_embeds", hidden);
  if (taps.Wants("im_mask")) {
    at::Tensor mask = at::zeros({batch.rows()}, at::kByte);  // (T)
    for (const FeatureSpan& span : batch.features) {
      mask.narrow(0, span.first_row, span.row_count).fill_(1);
    }
    PutTap(taps, "im_mask", mask);
  }
  return hidden;
}

void Stage::Run(at::Tensor& hidden, const Batch& batch, const TapSink& taps) {
  if (layers_.empty()) return;
  const BatchTensors tensors = MakeBatchTensors(config_, batch, cache_.shape(), device_);
  CopyBlocks(batch);
  RunLayers(hidden, tensors, taps);
}

void Stage::CopyBlocks(const Batch& batch) { cache_.Copy(batch.copies); }

void Stage::RunLayers(at::Tensor& hidden, const BatchTensors& tensors, const TapSink& taps) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    layers_[i].Forward(hidden, tensors, cache_.keys(layer), cache_.values(layer));
    PutTap(taps, StrCat("layer", range_.first_layer + layer, ".out"), hidden);
  }
}

Logits Stage::Score(const at::Tensor& hidden, const Batch& batch, const TapSink& taps) const {
  Check(head_.has_value(), "scores from a stage without the output");
  if (taps.Wants("final_norm.out")) {
    PutTap(taps, "final_norm.out", head_->Norm(hidden));
  }
  const std::vector<int64_t> wanted = ScoredRows(batch);
  Logits logits;
  logits.rows = static_cast<int64_t>(wanted.size());
  logits.vocab = config_.vocab_size;
  if (!hidden.is_meta()) logits.values.resize(wanted.size() * static_cast<size_t>(logits.vocab));
  for (int64_t first = 0; first < logits.rows; first += kScoreRows) {
    const int64_t count = std::min(kScoreRows, logits.rows - first);
    std::vector<at::Tensor> rows;
    for (int64_t i = first; i < first + count; ++i) {
      rows.push_back(hidden.narrow(0, wanted[static_cast<size_t>(i)], 1));
    }
    const at::Tensor scores = head_->Scores(at::cat(rows));  // (count, V)
    if (scores.is_meta()) continue;
    const at::Tensor host = scores.cpu().contiguous();
    std::copy_n(host.const_data_ptr<float>(), host.numel(),
                logits.values.data() + first * logits.vocab);
  }
  return logits;
}

}  // namespace xcomposer
