#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "batch/picture.h"
#include "config/model_config.h"
#include "model/decoder_layer.h"
#include "model/head.h"
#include "model/kv_cache.h"
#include "model/tok_embeddings.h"
#include "model/vision_encoder.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// What a stage holds of the model.
struct StageRange {
  int64_t first_layer = 0;
  int64_t end_layer = 0;
  bool first = true;  ///< also vision tower, projector, separators, token embeddings
  bool last = true;   ///< also the final norm and the output
};

/// A part of the model on one device with its own KV cache. The weights are const; the cache is
/// not, so a stage serves one caller at a time. Taps are given beside the batch: its own stay with
/// whoever made it.
class Stage {
 public:
  /// Takes the stage's weights from `weights`, which lie on the device of `options`, and nothing
  /// else. The type in `options` is that of keys and values: float32 or int8 on the CPU, that of
  /// the weights on CUDA. Throws what the source throws, and kCapacity for the cache.
  Stage(const ModelConfig& config, StageRange range, WeightSource& weights, KvShape kv,
        const at::TensorOptions& options);

  /// Picture -> (rows, C). First stage only. Throws kCancelled where `stop` says so on the way.
  at::Tensor Encode(const Picture& picture, const std::string& tap_prefix = {},
                    const TapSink& taps = {}, const StopTest& stop = {}) const;

  /// Ids and features -> (T, C). First stage only. Taps: inputs_embeds, im_mask.
  at::Tensor Embed(const Batch& batch, const std::function<at::Tensor(FeatureHandle)>& features,
                   const TapSink& taps = {}) const;

  /// Runs the layers over hidden (T, C), in place. Taps: layer<k>.out. Throws kCancelled where
  /// batch.stop says so on the way.
  void Run(at::Tensor& hidden, const Batch& batch, const TapSink& taps = {});

  /// The parts of Run without taps, for those who keep a batch's tables on the device.
  void CopyBlocks(const Batch& batch);
  void RunLayers(at::Tensor& hidden, const BatchTensors& tensors, const TapSink& taps = {},
                 const StopTest& stop = {});

  /// Scores of the rows that the batch wants, or the ids chosen by them where that will do and the
  /// device can. Last stage only. Tap: final_norm.out (all rows). `host`: for copies from the
  /// device.
  Logits Score(const at::Tensor& hidden, const Batch& batch, const TapSink& taps = {},
               const at::TensorOptions& host = at::kCPU) const;

  /// The parts of Embed and Score for those who keep ids and scores on the device.
  at::Tensor EmbedIds(const at::Tensor& ids) const { return tok_embeddings_->OfIds(ids); }
  void ScoreRows(at::Tensor& scores, const at::Tensor& hidden) const {
    head_->Score(scores, hidden);
  }

  const StageRange& range() const { return range_; }
  at::Device device() const { return device_; }
  const ModelConfig& config() const { return config_; }
  const KvShape& kv_shape() const { return cache_.shape(); }
  int64_t kv_bytes() const { return cache_.bytes(); }

 private:
  std::vector<int32_t> ChosenIds(const at::Tensor& hidden, std::span<const int64_t> rows,
                                 const Batch& batch, const at::TensorOptions& host) const;

  ModelConfig config_;
  StageRange range_;
  at::Device device_;
  std::optional<VisionEncoder> vision_;
  std::optional<TokEmbeddings> tok_embeddings_;
  std::vector<DecoderLayer> layers_;
  std::optional<Head> head_;
  KvCache cache_;
};

}  // namespace xcomposer
