#include "pipeline/torch_stage.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "base/check.h"
#include "pipeline/memory_meter.h"
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

void KeepMost(std::atomic<int64_t>& most, int64_t bytes) {
  if (bytes > most.load()) most.store(bytes);  // one thread writes
}

/// Counts what `work` allocates into `most`, where somebody wants to know.
template <typename Work>
auto Metered(std::atomic<int64_t>* most, int64_t before, const Work& work) {
  if (most == nullptr) return work();
  const AllocationScope scope;
  auto result = work();
  KeepMost(*most, before + scope.peak());
  return result;
}

}  // namespace

at::Tensor TorchStage::Encode(const Picture& picture, const std::string& tap_prefix,
                              const TapSink& taps) {
  const c10::InferenceMode inference;
  const CorePool::Lease cores(*cores_);
  return Translated("encoding a picture", [&] {
    return Metered(memory_ ? &memory_->vision : nullptr, 0,
                   [&] { return stage_.Encode(picture, tap_prefix, taps); });
  });
}

Payload TorchStage::Run(const Step& step, Payload hidden, const TapSink& taps) {
  const c10::InferenceMode inference;
  const CorePool::Lease cores(*cores_);
  const int64_t given = hidden.size;
  const auto run = [&] {
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
  };
  Payload result = Translated("running a batch", [&] {
    return Metered(memory_ ? &memory_->activations : nullptr, given, run);
  });
  if (first_ && memory_ != nullptr) CountJoins(step.batch);
  return result;
}

void TorchStage::CountJoins(const Batch& batch) {
  for (const FeatureSpan& span : batch.features) {
    memory_->joins += 1;
    memory_->joined_rows += span.row_count;
  }
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
                                                    const ModelConfig& config, const DeviceMap& map,
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
      const int64_t taken_before = weights.bytes();
      Stage stage(config, range, weights, options.kv, TorchDevice(place.device));
      std::shared_ptr<StageMemory> memory;
      if (options.memory != nullptr) {
        memory = {options.memory, &options.memory->emplace_back()};
        memory->weights = weights.bytes() - taken_before;
        memory->kv = options.kv.blocks * options.kv.block_size *
                     KvBytesPerPosition(config, range.end_layer - range.first_layer);
      }
      stages.push_back(
          std::make_unique<TorchStage>(std::move(stage), range.first, cores, std::move(memory)));
    }
  });
  return stages;
}

}  // namespace xcomposer
