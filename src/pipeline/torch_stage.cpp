#include "pipeline/torch_stage.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "base/check.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

at::Device TorchDevice(const std::string& name) {
  if (name.rfind("cpu", 0) == 0) return at::Device(at::kCPU);
  throw Error(ErrorKind::kDevice, StrCat("no stage can run on ", name, " in this build; use cpu"),
              {{"device", name}});
}

/// The rows where they lie, (T, C). The payload's owner lives as long as the tensor.
at::Tensor RowsOf(const Payload& payload, int64_t rows) {
  const int64_t width = payload.size / (rows * static_cast<int64_t>(sizeof(float)));
  return at::from_blob(
      payload.data, {rows, width}, [owner = payload.owner](void*) {}, at::kFloat);
}

Payload PayloadOf(const at::Tensor& rows) {
  const auto held = std::make_shared<at::Tensor>(rows.cpu().contiguous());
  return {held, static_cast<std::byte*>(held->data_ptr()), static_cast<int64_t>(held->nbytes())};
}

}  // namespace

at::Tensor TorchStage::Encode(const Picture& picture, const std::string& tap_prefix,
                              const TapSink& taps) {
  const c10::InferenceMode inference;
  const CorePool::Lease cores(*cores_);
  return Translated("encoding a picture",
                    [&] { return stage_.Encode(picture, tap_prefix, taps); });
}

Payload TorchStage::Run(const Step& step, Payload hidden, const TapSink& taps) {
  const c10::InferenceMode inference;
  const CorePool::Lease cores(*cores_);
  return Translated("running a batch", [&] {
    at::Tensor rows;  // (T, C)
    if (first_) {
      const auto& pictures = *static_cast<const PictureRows*>(step.first_stage_input.get());
      rows = stage_.Embed(
          step.batch, [&](FeatureHandle handle) { return pictures.at(handle); }, taps);
    } else {
      rows = RowsOf(hidden, step.batch.rows()).to(stage_.device());
    }
    stage_.Run(rows, step.batch, taps);
    return PayloadOf(rows);
  });
}

Logits TorchStage::Score(const Step& step, const Payload& hidden, const TapSink& taps) {
  const c10::InferenceMode inference;
  const CorePool::Lease cores(*cores_);
  return Translated("scoring a batch", [&] {
    const at::Tensor rows = RowsOf(hidden, step.batch.rows()).to(stage_.device());  // (T, C)
    return stage_.Score(rows, step.batch, taps);
  });
}

std::vector<std::unique_ptr<TorchStage>> LoadStages(WeightSource& weights,
                                                    const ModelConfig& config,
                                                    const DeviceMap& map,
                                                    const PipelineOptions& options, int first,
                                                    int end) {
  const auto cores = std::make_shared<CorePool>(options.threads);
  std::vector<std::unique_ptr<TorchStage>> stages;
  const c10::InferenceMode inference;
  Translated("loading the model", [&] {
    for (int i = first; i < end; ++i) {
      const StagePlace& place = map.stages[static_cast<size_t>(i)];
      const StageRange range = {.first_layer = place.first_layer,
                                .end_layer = place.end_layer,
                                .first = i == 0,
                                .last = i + 1 == static_cast<int>(map.stages.size())};
      stages.push_back(std::make_unique<TorchStage>(
          Stage(config, range, weights, options.kv, TorchDevice(place.device)), range.first,
          cores));
    }
  });
  return stages;
}

}  // namespace xcomposer
