// What the planner predicts against what the engine allocates, by cause.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Allocator.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <string>

#include "config/config_texts.h"
#include "config/rope.h"
#include "gtest/gtest.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/thread_pool.h"
#include "model/random_weights.h"
#include "ops/step_memory.h"
#include "pipeline/memory_meter.h"
#include "pipeline/stage.h"
#include "placement/footprint.h"
#include "placement/plan_report.h"
#include "tiny_model.h"

namespace xcomposer {
namespace {

/// One stage under one workload.
struct Case {
  std::string name;
  ModelConfig config;
  Workload workload;
  StageRange range;
  int64_t stages = 1;  ///< of the whole pipeline
};

std::ostream& operator<<(std::ostream& out, const Case& value) { return out << value.name; }

/// Bytes by cause, as counted.
struct Counted {
  int64_t weights = 0;
  int64_t kv = 0;
  int64_t activations = 0;
  int64_t vision = 0;
  int64_t workspace = 0;
};

/// A model small enough to run, but wide enough that tables of a few numbers do not count.
ModelConfig Small(Kind kind) {
  ModelConfig config = TinyModel(kind);
  config.hidden_size = 384;
  config.heads = 6;
  config.intermediate_size = 1100;
  config.vocab_size = 2003;
  config.vision.hidden_size = 128;
  config.vision.heads = 2;
  config.vision.intermediate_size = 512;
  config.vision.tile = config.vision.tiled ? 112 : 210;
  for (PloraShape& plora : config.plora) plora = {.rank = 32, .scale = 1.0};
  if (kind == Kind::k25_7b) config.adapters = {.sft = 24, .dpo = 24, .web = 32};
  return config;
}

PictureShape Shape(const ModelConfig& config, int64_t rows, int64_t columns) {
  const VisionConfig& vision = config.vision;
  if (!vision.tiled) return {vision.tile, vision.tile, 1, 1, vision.patches()};
  const int64_t m = vision.grid() / 2;
  return {columns * vision.tile, rows * vision.tile, rows, columns,
          (rows * columns + 1) * m * m + 1 + (rows + 1) * m};
}

Workload WorkloadOf(int64_t context, int64_t sequences, int64_t images, PictureShape picture,
                    int64_t chunk) {
  Workload workload;
  workload.context = context;
  workload.sequences = sequences;
  workload.images = images;
  workload.picture = picture;
  workload.prefill_chunk = chunk;
  return workload;
}

StageRange Whole(const ModelConfig& config) { return {.end_layer = config.layers}; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, const ModelConfig& config, const Workload& workload,
                       StageRange range, int64_t stages = 1) {
    cases.push_back({std::move(name), config, workload, range, stages});
  };
  for (const Kind kind : kAllKinds) {
    const ModelConfig config = Small(kind);
    std::string name = ToString(kind);
    for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
    const PictureShape picture = Shape(config, 2, 3);
    add(name + "_picture", config, WorkloadOf(600, 1, 1, picture, 300), Whole(config));
    add(name + "_several", config, WorkloadOf(500, 2, 2, picture, 256), Whole(config));
    add(name + "_text", config, WorkloadOf(512, 2, 0, picture, 200), Whole(config));
  }
  const ModelConfig khd = Small(Kind::k4khd7b);
  add("many_tiles", khd, WorkloadOf(1200, 1, 1, Shape(khd, 9, 4), 512), Whole(khd));
  add("one_row_of_tiles", khd, WorkloadOf(900, 1, 1, Shape(khd, 1, 7), 512), Whole(khd));
  add("column_of_tiles", khd, WorkloadOf(900, 1, 1, Shape(khd, 7, 1), 512), Whole(khd));
  const ModelConfig vl = Small(Kind::kVl7b);
  const Workload work = WorkloadOf(600, 2, 1, Shape(vl, 1, 1), 300);
  add("first_stage", vl, work, {.end_layer = 1, .last = false}, 3);
  add("middle_stage", vl, work, {.first_layer = 1, .end_layer = 2, .first = false, .last = false},
      3);
  add("last_stage", vl, work, {.first_layer = 2, .end_layer = 3, .first = false}, 3);
  Workload int8 = work;
  int8.int8_kv = true;
  add("int8_kv", vl, int8, Whole(vl));
  add("last_of_two_stages", vl, work, {.first_layer = 1, .end_layer = 3, .first = false}, 2);
  return cases;
}

/// Every sequence is run to its full length: pictures, the prompt in chunks.
class MeteredRun {
 public:
  MeteredRun(const Case& world, bool dry)
      : world_(world),
        device_(dry ? at::kMeta : at::kCPU),
        pool_(1),
        source_(dry ? static_cast<WeightSource*>(&meta_) : &random_) {}

  /// `planned_activations`: what the plan gives the layers, and pictures may use before them.
  Counted Run(int64_t planned_activations) {
    const c10::InferenceMode inference;
    const cpu::ThreadPoolScope threads(pool_);
    const Workload& work = world_.workload;
    const int64_t blocks = work.sequences * ((work.context + kKvBlock - 1) / kKvBlock);
    const AllocationScope resident;
    stage_.emplace(world_.config, world_.range, *source_,
                   KvShape{.blocks = blocks, .block_size = kKvBlock},
                   at::TensorOptions(device_).dtype(work.int8_kv ? at::kChar : at::kFloat));
    Counted counted;
    counted.weights = source_->bytes();
    counted.kv = stage_->kv_bytes();
    // What is left are float32 copies in place of 16-bit tensors, which were freed here; a mapped
    // tensor would stay.
    const int64_t copies = 2 * (resident.alive() - counted.kv - counted.weights);
    const AllocationScope all;
    Encode();
    int64_t features = 0;
    for (const at::Tensor& rows : features_) features += static_cast<int64_t>(rows.nbytes());
    for (int64_t s = 0; s < work.sequences; ++s) Prefill(s);
    DecodeTogether();
    counted.activations = layers_peak_;
    counted.vision =
        (world_.range.first ? copies : 0) + std::max(features, all.peak() - planned_activations);
    counted.workspace = pool_.scratch_bytes();
    return counted;
  }

 private:
  void Encode() {
    const Workload& work = world_.workload;
    if (!world_.range.first) return;  // another stage does it
    Picture picture{work.picture.width, work.picture.height, {}};
    picture.rgb.resize(static_cast<size_t>(3 * picture.width * picture.height), 100);
    for (int64_t i = 0; i < work.sequences * work.images; ++i) {
      const ops::StepMemory memory;  // as CorePool's lease has
      features_.push_back(stage_->Encode(picture));
    }
  }

  /// Beside the rows of all other batches that can be in flight: stages + 1 in all, as the engine's
  /// tests of its pipelining count them, and all of them may be waiting at one stage.
  void Forward(const Batch& batch) {
    const AllocationScope scope;
    const ops::StepMemory memory;
    std::vector<at::Tensor> waiting;
    for (int64_t i = 0; world_.stages > 1 && i < world_.stages; ++i) {
      waiting.push_back(at::empty({BatchRows(world_.workload), world_.config.hidden_size},
                                  at::TensorOptions().device(device_)));
    }
    at::Tensor hidden =
        world_.range.first
            ? stage_->Embed(batch,
                            [&](FeatureHandle f) { return features_[static_cast<size_t>(f)]; })
            : at::zeros({batch.rows(), world_.config.hidden_size},
                        at::TensorOptions().device(device_));
    stage_->Run(hidden, batch);
    if (world_.range.last) stage_->Score(hidden, batch);
    layers_peak_ = std::max(layers_peak_, scope.peak());
  }

  SequenceSlice SliceOf(int64_t s, int64_t position, int64_t rows) const {
    const Workload& work = world_.workload;
    const auto blocks = static_cast<int32_t>((work.context + kKvBlock - 1) / kKvBlock);
    SequenceSlice slice;
    slice.row_count = rows;
    slice.position = position;
    slice.rope_base = RopeBase(world_.config, work.context);
    for (int32_t b = 0; b < blocks; ++b) {
      slice.block_table.push_back(static_cast<int32_t>(s) * blocks + b);
    }
    return slice;
  }

  /// Pictures first, side by side, then text.
  void Prefill(int64_t s) {
    const Workload& work = world_.workload;
    for (int64_t at = 0; at + 1 < work.context; at += work.prefill_chunk) {
      const int64_t end = std::min(work.context - 1, at + work.prefill_chunk);
      Batch batch;
      batch.ids.assign(static_cast<size_t>(end - at), 3);
      batch.sequences.push_back(SliceOf(s, at, end - at));
      for (int64_t i = 0; i < work.images; ++i) {
        const int64_t first = std::max(at, i * work.picture.rows);
        const int64_t last = std::min(end, (i + 1) * work.picture.rows);
        if (first >= last) continue;
        batch.features.push_back(
            {first - at, last - first, s * work.images + i, first - i * work.picture.rows});
      }
      Forward(batch);
    }
  }

  void DecodeTogether() {
    const Workload& work = world_.workload;
    Batch batch;
    for (int64_t s = 0; s < work.sequences; ++s) {
      batch.ids.push_back(5);
      batch.sequences.push_back(SliceOf(s, work.context - 1, 1));
      batch.sequences.back().first_row = s;
    }
    Forward(batch);
  }

  const Case& world_;
  at::Device device_;
  cpu::ThreadPool pool_;
  RandomWeights random_{11};
  MetaWeights meta_;
  WeightSource* source_;
  std::optional<Stage> stage_;
  std::vector<at::Tensor> features_;
  int64_t layers_peak_ = 0;
};

ComputeTraits TraitsHere() {
  const cpu::IsaKernels& kernels = cpu::KernelsFor(cpu::BestIsa());
  ComputeTraits traits = CpuTraits();
  traits.threads = 1;
  const cpu::PanelSizes panels = cpu::LargestPanels(cpu::BestIsa());
  traits.panel_rows = panels.rows;
  traits.panel_columns = panels.columns;
  traits.panel_number = panels.x_bytes;
  traits.streamed_rows = panels.few_rows;
  traits.panel_scratch = 4 * panels.scratch;
  traits.attention_fixed = 4 * kernels.attention_scratch(0);
  traits.attention_scratch = 4 * kernels.attention_scratch(1) - traits.attention_fixed;
  return traits;
}

PlannedDevice Predicted(const Case& world) {
  Cluster cluster;
  cluster.nodes.push_back({"a", kAssumedNodeLink});
  ClusterDevice device;
  device.name = device.kind = "cpu";
  device.budget = device.memory = int64_t{1} << 50;
  device.bandwidth = device.flops = 1e9;
  cluster.devices.assign(static_cast<size_t>(world.stages), device);
  const ModelFootprint footprint(world.config, TraitsHere());
  const CostTable costs = footprint.Costs(world.workload, cluster);
  const StageRange& range = world.range;
  const PlacedBlock block{0, range.first ? 0 : range.first_layer + 1,
                          range.last ? world.config.layers + 2 : range.end_layer + 1};
  // A stage alone has no map; its figures are those of the one block.
  return StageOf({footprint, cluster, world.workload, costs}, block);
}

/// Meta tensors have sizes and no memory; this makes their sizes known to the meter.
class ReportingMetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    Report(static_cast<int64_t>(bytes));
    return {nullptr, new int64_t(static_cast<int64_t>(bytes)), &Free, at::Device(at::kMeta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void*, const void*, size_t) const override {}

 private:
  static void Report(int64_t bytes) {
    c10::reportMemoryUsageToProfiler(nullptr, bytes, 0, 0, at::Device(at::kMeta));
  }
  static void Free(void* context) {
    const std::unique_ptr<int64_t> bytes(static_cast<int64_t*>(context));
    Report(-*bytes);
  }
};

/// Within 3 %, and never more than predicted.
void ExpectTrue(const char* cause, int64_t predicted, int64_t counted) {
  EXPECT_LE(counted, predicted) << cause;
  EXPECT_GE(static_cast<double>(counted), 0.97 * static_cast<double>(predicted))
      << cause << ": predicted " << predicted << ", counted " << counted;
}

class Memory : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(, Memory, testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

TEST_P(Memory, IsAsPredicted) {
  const PlannedDevice planned = Predicted(GetParam());
  const int64_t activations = planned.bytes.activations + planned.overhead.activations;
  const Counted counted = MeteredRun(GetParam(), /*dry=*/false).Run(activations);
  ExpectTrue("weights", planned.bytes.weights, counted.weights);
  ExpectTrue("kv", planned.bytes.kv, counted.kv);
  ExpectTrue("activations", activations, counted.activations);
  if (planned.bytes.vision > 0) ExpectTrue("vision", planned.bytes.vision, counted.vision);
  ExpectTrue("workspace", planned.bytes.workspace + planned.overhead.workspace, counted.workspace);
}

/// As the engine encodes: with the memory of a step around all of it.
TEST(EncodingMemory, IsAsPredicted) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{2, 3}, {9, 4}, {11, 5}}) {
    ModelConfig config = Small(Kind::k4khd7b);
    config.vision.hidden_size = 256;
    config.vision.intermediate_size = 1024;
    const PictureShape shape = Shape(config, rows, columns);
    const c10::InferenceMode inference;
    cpu::ThreadPool pool(1);
    const cpu::ThreadPoolScope threads(pool);
    RandomWeights weights(11);
    const Stage stage(config, Whole(config), weights, KvShape{.blocks = 1, .block_size = kKvBlock},
                      at::TensorOptions().dtype(at::kFloat));
    Picture picture{shape.width, shape.height, {}};
    picture.rgb.resize(static_cast<size_t>(3 * picture.width * picture.height), 100);
    const AllocationScope scope;
    const ops::StepMemory memory;
    stage.Encode(picture);
    const std::string name = std::to_string(rows) + " x " + std::to_string(columns);
    ExpectTrue(name.c_str(), PictureActivations(config, shape, TraitsHere()), scope.peak());
  }
}

/// The shipped sizes, without weights and without computing.
std::vector<Case> FullSize() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Kind kind, Workload work, PictureShape picture) {
    const ModelConfig config = ParseConfig(ShippedConfig(kind).dump());
    work.picture = picture;
    cases.push_back({std::move(name), config, work, Whole(config), 1});
  };
  add("k2_7b", Kind::k2_7b, WorkloadOf(2048, 1, 1, {}, 1024), {224, 224, 1, 1, 256});
  add("vl_7b", Kind::kVl7b, WorkloadOf(4096, 2, 2, {}, 1024), {490, 490, 1, 1, 1225});
  Workload int8 = WorkloadOf(4096, 2, 2, {}, 1024);
  int8.int8_kv = true;
  add("vl_7b_int8_kv", Kind::kVl7b, int8, {490, 490, 1, 1, 1225});
  add("vl_1_8b", Kind::kVl1_8b, WorkloadOf(2048, 4, 1, {}, 512), {490, 490, 1, 1, 1225});
  add("k4khd_55_tiles", Kind::k4khd7b, WorkloadOf(9216, 1, 1, {}, 1024),
      {5 * 336, 11 * 336, 11, 5, 8209});
  add("k25_24_tiles", Kind::k25_7b, WorkloadOf(12288, 1, 1, {}, 2048),
      {6 * 560, 4 * 560, 4, 6, 10101});
  return cases;
}

class FullSizeMemory : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(, FullSizeMemory, testing::ValuesIn(FullSize()),
                         [](const auto& info) { return info.param.name; });

TEST_P(FullSizeMemory, IsAsPredictedByADryRun) {
  static ReportingMetaAllocator allocator;
  c10::SetAllocator(c10::DeviceType::Meta, &allocator, /*priority=*/1);
  const PlannedDevice planned = Predicted(GetParam());
  const int64_t activations = planned.bytes.activations + planned.overhead.activations;
  const Counted counted = MeteredRun(GetParam(), /*dry=*/true).Run(activations);
  ExpectTrue("weights", planned.bytes.weights, counted.weights);
  ExpectTrue("kv", planned.bytes.kv, counted.kv);
  ExpectTrue("activations", activations, counted.activations);
  ExpectTrue("vision", planned.bytes.vision, counted.vision);
}

}  // namespace
}  // namespace xcomposer
