#pragma once

#include <c10/core/InferenceMode.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "batch/executor.h"
#include "pipeline/decode_steps.h"
#include "pipeline/stage.h"

namespace xcomposer {

/// Records by keeping the work, and replays by running it again: whatever it reads must still be
/// there.
class ReplayingRecorder final : public GraphRecorder {
 public:
  std::unique_ptr<CapturedGraph> Record(const std::function<void()>& work) override {
    ++recorded;
    return std::make_unique<Graph>(work, &replayed);
  }

  int recorded = 0;
  int replayed = 0;

 private:
  struct Graph final : CapturedGraph {
    Graph(std::function<void()> work, int* replayed) : work(std::move(work)), replayed(replayed) {}
    void Replay() override {
      ++*replayed;
      work();
    }
    std::function<void()> work;
    int* replayed;
  };
};

/// One stage that holds the whole model, on the calling thread: what is left of a pipeline when all
/// that moves batches is taken away.
class StageExecutor final : public Executor {
 public:
  StageExecutor(const ModelConfig& config, WeightSource& weights, KvShape kv,
                const at::TensorOptions& options)
      : stage_(config, {.first_layer = 0, .end_layer = config.layers}, weights, kv, options),
        limits_{.vocab = config.vocab_size,
                .kv_blocks = kv.blocks,
                .block_size = kv.block_size,
                .max_batch_rows = 4096,
                .chooses_ids = !options.device().is_cpu()} {}

  /// Steps of decoding go through `recorder` from now on.
  void RecordSteps(GraphRecorder& recorder) { decode_.emplace(stage_, recorder, at::kCPU); }

  const ExecutorLimits& limits() const override { return limits_; }
  std::vector<PlacedPart> placement() const override { return {}; }

  EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                        const StopTest& stop) override {
    const c10::InferenceMode inference;
    const auto handle = static_cast<FeatureHandle>(features_.size());
    features_[handle] = stage_.Encode(picture, tap_prefix, taps, stop);
    return {.feature = handle, .rows = features_[handle].size(0)};
  }
  void Release(FeatureHandle feature) override { features_.erase(feature); }

  void Submit(Batch batch) override {
    const c10::InferenceMode inference;
    if (decode_ && !batch.taps.wants && decode_->Takes(batch)) {
      logits_ = decode_->Score({}, batch);
      return;
    }
    at::Tensor hidden = stage_.Embed(
        batch, [this](FeatureHandle handle) { return features_.at(handle); }, batch.taps);
    stage_.Run(hidden, batch, batch.taps);
    logits_ = stage_.Score(hidden, batch, batch.taps);
  }
  Logits Collect() override { return std::exchange(logits_, {}); }

 private:
  Stage stage_;
  ExecutorLimits limits_;
  std::map<FeatureHandle, at::Tensor> features_;
  Logits logits_;
  std::optional<DecodeSteps> decode_;
};

}  // namespace xcomposer
