#include "pipeline/stage.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/check.h"
#include "config/weight_names.h"
#include "model/choice_table.h"
#include "model/stop.h"
#include "model/tap.h"
#include "pipeline/host_copy.h"

namespace xcomposer {
namespace {

// Rows scored at a time where all rows are wanted; bounds the copy of scores beside the result.
constexpr size_t kScoreRows = 64;

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

/// hidden (T, C) -> (rows, C).
at::Tensor Picked(const at::Tensor& hidden, std::span<const int64_t> rows) {
  std::vector<at::Tensor> picked;
  for (const int64_t row : rows) picked.push_back(hidden.narrow(0, row, 1));
  return at::cat(picked);
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

at::Tensor Stage::Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                         const StopTest& stop) const {
  Check(vision_.has_value(), "a picture for a stage without a vision tower");
  return vision_->Encode(picture, device_, tap_prefix, taps, stop);
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
  BatchTensors tensors = MakeBatchTensors(config_, batch, cache_.shape(), device_);
  if (!tensors.picture_rows.empty()) {
    tensors.rooms = layers_.front().MakeRooms(batch.rows(), cache_.keys(0).options());
  }
  CopyBlocks(batch);
  RunLayers(hidden, tensors, taps, batch.stop);
}

void Stage::CopyBlocks(const Batch& batch) { cache_.Copy(batch.copies); }

void Stage::RunLayers(at::Tensor& hidden, const BatchTensors& tensors, const TapSink& taps,
                      const StopTest& stop) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    ThrowIfStopped(stop);
    const auto layer = static_cast<int64_t>(i);
    layers_[i].Forward(hidden, tensors, cache_.keys(layer), cache_.values(layer));
    PutTap(taps, StrCat("layer", range_.first_layer + layer, ".out"), hidden);
  }
}

/// None where the scores must be looked at.
std::vector<int32_t> Stage::ChosenIds(const at::Tensor& hidden, std::span<const int64_t> rows,
                                      const Batch& batch, const at::TensorOptions& host) const {
  ops::ChoiceTable choices = MakeChoiceTable(batch, config_.vocab_size, device_);
  std::vector<at::Tensor> parts;
  for (size_t first = 0; first < rows.size(); first += kScoreRows) {
    const auto count = std::min<size_t>(kScoreRows, rows.size() - first);
    const auto part = [&](const at::Tensor& t) {
      return t.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(count));
    };
    ops::ChoiceTable some = {part(choices.rules), part(choices.seen), part(choices.steps)};
    const at::Tensor picked = Picked(hidden, rows.subspan(first, count));  // (count, C)
    at::Tensor scores =
        at::empty({picked.size(0), config_.vocab_size}, picked.options());  // (count, V)
    head_->Score(scores, picked);
    parts.push_back(ops::ChooseIds(scores, some));
  }
  const at::Tensor ids = ToHost(at::cat(parts), host);
  const auto* first = ids.const_data_ptr<int32_t>();
  std::vector<int32_t> chosen(first, first + ids.numel());
  if (std::any_of(chosen.begin(), chosen.end(), [](int32_t id) { return id < 0; })) chosen.clear();
  return chosen;
}

Logits Stage::Score(const at::Tensor& hidden, const Batch& batch, const TapSink& taps,
                    const at::TensorOptions& host) const {
  Check(head_.has_value(), "scores from a stage without the output");
  if (taps.Wants("final_norm.out")) {
    PutTap(taps, "final_norm.out", head_->Norm(hidden));
  }
  const std::vector<int64_t> wanted = ScoredRows(batch);
  Logits logits;
  logits.rows = static_cast<int64_t>(wanted.size());
  logits.vocab = config_.vocab_size;
  const bool on_device = !device_.is_cpu() && !hidden.is_meta();
  if (on_device && logits.rows > 0 && WantsIdsOnly(batch)) {
    logits.chosen = ChosenIds(hidden, wanted, batch, host);
    if (!logits.chosen.empty()) return logits;
  }
  if (!hidden.is_meta()) logits.values.resize(wanted.size() * static_cast<size_t>(logits.vocab));
  for (size_t first = 0; first < wanted.size(); first += kScoreRows) {
    const auto count = std::min<size_t>(kScoreRows, wanted.size() - first);
    const at::Tensor picked = Picked(hidden, std::span(wanted).subspan(first, count));
    const std::vector<int64_t> shape = {picked.size(0), logits.vocab};  // (count, V)
    at::Tensor values;
    if (!hidden.is_meta()) {
      values = at::from_blob(logits.values.data() + first * static_cast<size_t>(logits.vocab),
                             shape, at::kFloat);
    }
    at::Tensor scores = hidden.is_cpu() ? values : at::empty(shape, picked.options());
    head_->Score(scores, picked);
    if (on_device) values.copy_(ToHost(scores, host));
  }
  return logits;
}

}  // namespace xcomposer
