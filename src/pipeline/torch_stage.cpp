#include "pipeline/torch_stage.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cpu/bf12_matrix.h"
#include "pipeline/gpu_links.h"
#include "pipeline/memory_meter.h"
#include "pipeline/rank_start.h"
#include "pipeline/torch_errors.h"
#include "pipeline/warm_up.h"
#include "placement/weight_type.h"

namespace xcomposer {
namespace {

// The planner counts what the kernels pack.
static_assert(kBf12Outputs == cpu::kBf12Rows && kBf12Inputs == cpu::kBf12Block);
static_assert(kBf12BlockWords == cpu::kBf12Rows * cpu::kBf12Words);
static_assert(kNumbersOfBf12Outlier == cpu::kBf12OutlierShare);

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

void TorchStage::WarmUp(int64_t rows) {
  if (!decode_) return;
  const c10::InferenceMode inference;
  const auto lease = device_->Enter();
  Translated("warming up",
             [&] { xcomposer::WarmUp(stage_, *decode_, rows, device_->host_options()); });
}

at::Tensor TorchStage::Encode(const Picture& picture, const std::string& tap_prefix,
                              const TapSink& taps, const StopTest& stop) {
  const c10::InferenceMode inference;
  const auto lease = device_->Enter();
  return Translated("encoding a picture", [&] {
    return Metered(memory_ ? &memory_->vision : nullptr, 0,
                   [&] { return stage_.Encode(picture, tap_prefix, taps, stop); });
  });
}

/// Whether the launches of a step may be those of an earlier one.
bool TorchStage::IsRecorded(const Step& step) const {
  return decode_ && step.taps.empty() && decode_->Takes(step.batch);
}

/// (T, C) of the stage before; the first stage has none.
at::Tensor TorchStage::Given(const Step& step, const Payload& hidden) const {
  return role_.first ? at::Tensor() : Taken(hidden, step.batch.rows());
}

/// The stage's layers, launched one by one: (T, C).
at::Tensor TorchStage::Layers(const Step& step, const Payload& hidden, const TapSink& taps) {
  at::Tensor rows = Given(step, hidden);
  if (role_.first) {
    const auto& pictures = *static_cast<const PictureRows*>(step.first_stage_input.get());
    rows = stage_.Embed(
        step.batch, [&](FeatureHandle handle) { return pictures.at(handle); }, taps);
  }
  stage_.Run(rows, step.batch, taps);
  if (role_.first && memory_ != nullptr) CountJoins(step.batch);
  return rows;
}

Payload TorchStage::Run(const Step& step, Payload hidden, const TapSink& taps) {
  const c10::InferenceMode inference;
  const auto lease = device_->Enter();
  const auto run = [&] {
    const at::Tensor rows = IsRecorded(step) ? decode_->Run(Given(step, hidden), step.batch)
                                             : Layers(step, hidden, taps);
    return role_.keeps_rows ? OnDevice(device_->Give(rows)) : PayloadOf(rows);
  };
  return Translated("running a batch", [&] {
    return Metered(memory_ ? &memory_->activations : nullptr, hidden.size, run);
  });
}

at::Tensor TorchStage::Taken(const Payload& payload, int64_t rows) const {
  if (payload.on_device) return device_->Take(DeviceRowsIn(payload)).view({rows, -1});
  return RowsOf(payload, rows).to(stage_.device());
}

void TorchStage::CountJoins(const Batch& batch) {
  for (const FeatureSpan& span : batch.features) {
    memory_->joins += 1;
    memory_->joined_rows += span.row_count;
  }
}

Logits TorchStage::Score(const Step& step, Payload hidden, const TapSink& taps) {
  const c10::InferenceMode inference;
  const auto lease = device_->Enter();
  return Translated("running a batch", [&] {
    if (IsRecorded(step)) return decode_->Score(Given(step, hidden), step.batch);
    const at::Tensor rows = Metered(memory_ ? &memory_->activations : nullptr, hidden.size,
                                    [&] { return Layers(step, hidden, taps); });
    return stage_.Score(rows, step.batch, taps, device_->host_options());
  });
}

namespace {

/// Adds what has passed since it was last asked.
class Stopwatch {
 public:
  void AddTo(double& seconds) {
    const auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// Whether the rows of stage `i` are taken by the next stage on a GPU, in this process.
bool KeepsRows(const DeviceMap& map, int i, int end) {
  const auto& stages = map.stages;
  if (!IsCuda(stages[static_cast<size_t>(i)].device)) return false;
  return i + 1 < end && IsCuda(stages[static_cast<size_t>(i) + 1].device);
}

void LogPacked(const Bf12Counts& counts) {
  const std::string kept =
      counts.kept == 0 ? "" : StrCat("; ", counts.kept, " that do not fit stay bfloat16");
  log::Info(counts.packed, " matrices are kept in 12 bits a number (bf12)", kept);
}

}  // namespace

RowLinks Connected(const PipelineOptions& options, const StageLayout& layout, TorchStage& first,
                   TorchStage& last) {
  RowLinks links;
  StartTogether(*options.transport, options.rank_of_stage, [&] {
    links = Translated("connecting the GPUs",
                       [&] { return ConnectGpus(options, layout, first.device(), last.device()); });
  });
  if (links.to_next) last.KeepRows();
  return links;
}

std::vector<std::unique_ptr<TorchStage>> LoadStages(WeightSource& weights,
                                                    const ModelConfig& config, const DeviceMap& map,
                                                    const PipelineOptions& options, int first,
                                                    int end) {
  const auto cores = std::make_shared<CorePool>(options.threads);
  std::vector<std::unique_ptr<TorchStage>> stages;
  const c10::InferenceMode inference;
  LoadTimes times;
  Stopwatch watch;
  for (int i = first; i < end; ++i) {
    CheckModelOn(map.stages[static_cast<size_t>(i)].device, config, options.int8_kv);
  }
  if (options.pack_bf12) weights.PackBf12();
  Translated("loading the model", [&] {
    for (int i = first; i < end; ++i) {
      const StagePlace& place = map.stages[static_cast<size_t>(i)];
      const StageRange range = {.first_layer = place.first_layer,
                                .end_layer = place.end_layer,
                                .first = i == 0,
                                .last = i + 1 == static_cast<int>(map.stages.size())};
      const auto stage_number = static_cast<size_t>(i);
      const auto budget = stage_number < options.budgets.size()
                              ? std::optional(options.budgets[stage_number])
                              : std::nullopt;
      auto device = MakeStageDevice(place.device, options, cores, budget);
      watch.AddTo(times.device_s);
      std::optional<Stage> stage;
      int64_t weight_bytes = 0;
      device->Load(weights, [&](WeightSource& source) {
        const int64_t taken_before = source.bytes();
        stage.emplace(config, range, source, options.kv, device->options());
        weight_bytes = source.bytes() - taken_before;
      });
      times.weight_bytes += weight_bytes;
      watch.AddTo(times.weights_s);
      std::shared_ptr<StageMemory> memory;
      if (options.memory != nullptr) {
        memory = {options.memory, &options.memory->emplace_back()};
        memory->weights = weight_bytes;
        memory->kv = stage->kv_bytes();
      }
      stages.push_back(std::make_unique<TorchStage>(
          *std::move(stage),
          TorchStage::Role{.first = range.first, .keeps_rows = KeepsRows(map, i, end)},
          std::move(device), std::move(memory)));
      stages.back()->WarmUp(options.max_batch_rows);
      watch.AddTo(times.warm_up_s);
    }
  });
  if (options.times != nullptr) *options.times = times;
  if (options.pack_bf12 || weights.bf12_counts().packed > 0) LogPacked(weights.bf12_counts());
  return stages;
}

}  // namespace xcomposer
