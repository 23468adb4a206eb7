#include "placement/memory_formula.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

namespace xcomposer {
namespace {

// Constants of the engine: src/model/vision_encoder, projector; src/pipeline/stage, decode_steps;
// src/ops/cuda_resources; kernels/cpu.
constexpr int64_t kTowerRows = 4096;
constexpr int64_t kProjectRows = 2048;
constexpr int64_t kScoreRows = 64;
constexpr int64_t kPackedFloats = int64_t{8} << 20;
constexpr int64_t kTaskRows = 256;
constexpr int64_t kTaskPanels = 6;
constexpr int64_t kTasksPerThread = 6;
constexpr int64_t kFloat = 4;

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t RoundUp(int64_t a, int64_t b) { return DivideUp(a, b) * b; }

int64_t BlocksPerSequence(const Workload& workload) { return DivideUp(workload.context, kKvBlock); }

/// Rows of the longest run of picture rows in a batch; pictures may stand side by side.
int64_t PictureSpan(const Workload& workload) {
  return std::min(BatchRows(workload), workload.images * workload.picture.rows);
}

int64_t LowRankNumbers(const ModelConfig& config, const Workload& workload, DecoderLinear linear) {
  const AdapterRanks& adapters = config.adapters;
  const int64_t adapter = std::max({adapters.sft, adapters.dpo, adapters.web});
  return std::max(PictureSpan(workload) * config.plora_of(linear).rank,
                  BatchRows(workload) * adapter);
}

/// Numbers of a batch's rooms (model/adapter_rooms), with the products that are alive beside them
/// while queries, keys and values are rotated.
int64_t RoomNumbers(const ModelConfig& config, const Workload& workload) {
  const auto rank = [&](DecoderLinear linear) { return config.plora_of(linear).rank; };
  const int64_t behind =
      std::max({rank(DecoderLinear::kWqkv), rank(DecoderLinear::kWo), rank(DecoderLinear::kW3)});
  const int64_t narrow = rank(DecoderLinear::kW1) + config.hidden_size + behind;
  const int64_t wide = 2 * config.intermediate_size + rank(DecoderLinear::kW2);
  const int64_t rotated = config.wqkv_rows() + config.hidden_size;
  return BatchRows(workload) * (narrow + wide + rotated) +
         LowRankNumbers(config, workload, DecoderLinear::kWqkv);
}

/// Floats that a linear with K inputs packs for so many rows (kernels/cpu/linear.cpp).
int64_t PackedFloats(int64_t rows, int64_t depth, const ComputeTraits& traits) {
  const int64_t whole = RoundUp(depth, 32);
  if (rows <= traits.streamed_rows) return rows * whole;
  const int64_t most = std::max(kTaskRows, kPackedFloats / std::max<int64_t>(1, depth));
  const int64_t numbers = RoundUp(std::min(rows, most), traits.panel_rows) * whole;
  return DivideUp(numbers * traits.panel_number, kFloat);
}

/// Floats of what the key ranges of decoding rows leave (kernels/cpu/attention.cpp).
int64_t RangeFloats(const ModelConfig& config, const Workload& workload) {
  constexpr int64_t kRangeKeys = 64;
  constexpr int64_t kMostRanges = 32;  // of a sequence
  constexpr int64_t kRangesAtATime = 64;
  const int64_t ranges =
      std::clamp<int64_t>((workload.context + kRangeKeys - 1) / kRangeKeys, 1, kMostRanges);
  return std::min(kRangesAtATime, workload.sequences * ranges) * config.heads *
         (config.head_dim() + 2);
}

/// Panels of the weight in a task of a linear, which is narrower where threads would find none
/// (Multiply in kernels/cpu/linear.cpp); more outputs never make it narrower.
int64_t TaskPanels(int64_t row_blocks, int64_t outputs, const ComputeTraits& traits) {
  const int64_t panels = DivideUp(outputs, traits.panel_columns);
  int64_t task = kTaskPanels;
  while (task > 1 && DivideUp(panels, task) * row_blocks < kTasksPerThread * traits.threads) {
    --task;
  }
  return task;
}

/// One thread's scratch: a panel of the weight with the sums of its widest task, or attention with
/// heads of this size. A shorter run of rows may be one task where a longer one is cut in two.
int64_t ThreadScratch(int64_t rows, int64_t outputs, int64_t head_dim,
                      const ComputeTraits& traits) {
  const int64_t attention = traits.attention_scratch * head_dim + traits.attention_fixed;
  if (rows <= traits.streamed_rows) return attention;
  int64_t row_panels = 0;
  int64_t task_panels = 0;
  for (int64_t blocks = 1; blocks <= DivideUp(rows, kTaskRows) && task_panels < kTaskPanels;
       ++blocks) {
    const int64_t longest = std::min(rows, blocks * kTaskRows);
    task_panels = TaskPanels(blocks, outputs, traits);
    row_panels =
        std::max(row_panels, task_panels * RoundUp(DivideUp(longest, blocks), traits.panel_rows));
  }
  const int64_t sums = row_panels * traits.panel_columns * kFloat;
  return std::max(traits.panel_scratch + sums, attention);
}

int64_t ViewsOf(const PictureShape& picture, const VisionConfig& vision) {
  return vision.tiled ? 1 + picture.tile_rows * picture.tile_columns : 1;
}

/// Views that go through the tower together.
int64_t TowerViews(const PictureShape& picture, const VisionConfig& vision) {
  const int64_t most = std::max<int64_t>(1, kTowerRows / (vision.patches() + 1));
  return std::min(most, ViewsOf(picture, vision));
}

/// Bytes of a copy of so many numbers of a residual stream, where products take narrower ones.
int64_t Narrowed(int64_t numbers, const ComputeTraits& traits) {
  return traits.activation < traits.residual ? numbers * traits.activation : 0;
}

/// Alive at the peak of one run of the tower, whose residual stream is as wide as the decoder's.
int64_t TowerBytes(const PictureShape& picture, const VisionConfig& vision,
                   const ComputeTraits& traits) {
  const int64_t count = TowerViews(picture, vision);
  const int64_t rows = count * (vision.patches() + 1);
  const int64_t pixels = count * 3 * vision.tile * vision.tile;
  const int64_t hidden = rows * vision.hidden_size * traits.residual;
  const int64_t width = rows * vision.hidden_size * traits.activation;
  const int64_t embedding =
      (pixels + count * vision.patches() * vision.hidden_size) * traits.residual +
      Narrowed(pixels, traits);
  const int64_t attention = 6 * width;  // x, q, k, v, mixed, out
  const int64_t mlp = 2 * width + rows * vision.intermediate_size * traits.activation;
  return pixels * traits.residual + hidden + std::max({embedding, attention, mlp});
}

/// Numbers that are alive at the peak of joining the views' features (2x2 merge, separators).
int64_t MergeNumbers(const PictureShape& picture, const VisionConfig& vision) {
  if (!vision.tiled) return 0;
  const int64_t m = vision.grid() / 2;
  const int64_t view = vision.patches() * vision.hidden_size;  // without the class
  const int64_t width = vision.merged_width();
  const int64_t tiles = ViewsOf(picture, vision) - 1;
  const int64_t turned = picture.tile_columns > 1 ? tiles * view : 0;
  const int64_t with_ends = m * (m + 1) + picture.tile_rows * m * (picture.tile_columns * m + 1);
  return (tiles + 1) * view + turned + (with_ends + picture.rows) * width;
}

}  // namespace

ComputeTraits CpuTraits() {
  ComputeTraits traits;
  traits.runtime = int64_t{536} << 20;  // LibTorch and its tables: 464 to 517 MB were measured
  traits.waiting_batches = std::numeric_limits<int64_t>::max();  // rows wait where they are used
  traits.packs_rows = true;
  traits.threads = 2;
  traits.panel_rows = 8;
  traits.panel_columns = 48;
  traits.panel_scratch = kFloat * 192 * 48;
  traits.attention_scratch = kFloat * (4 * 2 * 96 + 96 + 96);
  traits.attention_fixed = kFloat * (96 + 1 + 4 * 3) * 96;
  return traits;
}

ComputeTraits CudaTraits() {
  ComputeTraits traits;
  traits.activation = 2;
  traits.kv = KvType::k16Bit;
  traits.runtime = int64_t{640} << 20;
  traits.library_workspace = (int64_t{32} << 20) + (int64_t{256} << 10);
  traits.joins_adapters = true;
  traits.recorded_sequences = 32;
  traits.waiting_batches = 2;  // one posted to be received, one being sent; others wait in the host
  return traits;
}

int64_t BatchRows(const Workload& workload) {
  return std::min(workload.prefill_chunk, workload.sequences * workload.context);
}

KvType KvTypeOf(const Workload& workload, const ComputeTraits& traits) {
  return workload.int8_kv ? KvType::kInt8 : traits.kv;
}

int64_t KvBytesOfLayer(const ModelConfig& config, const Workload& workload,
                       const ComputeTraits& traits) {
  const int64_t positions = workload.sequences * BlocksPerSequence(workload) * kKvBlock;
  return positions * KvBytesPerPosition(config, KvTypeOf(workload, traits));
}

int64_t LayerActivations(const ModelConfig& config, const Workload& workload,
                         const ComputeTraits& traits) {
  const int64_t rows = BatchRows(workload);
  const int64_t hidden = rows * config.hidden_size;
  const int64_t inner = rows * config.intermediate_size;
  const auto low = [&](DecoderLinear linear) { return LowRankNumbers(config, workload, linear); };
  // x, qkv, q, mixed, out beside the hidden rows; then x, gate, up; then x, gate, out.
  const int64_t attention = 4 * hidden + rows * config.wqkv_rows() + low(DecoderLinear::kWo);
  const int64_t gate_up = hidden + 2 * inner + low(DecoderLinear::kW3);
  const int64_t down = 2 * hidden + inner + low(DecoderLinear::kW2);
  const bool in_rooms = traits.joins_adapters && workload.images > 0;
  const int64_t rooms = in_rooms ? RoomNumbers(config, workload) : 0;
  const int64_t tables = rows * (config.head_dim() * kFloat + 8) +
                         workload.sequences * (3 + BlocksPerSequence(workload)) * 4;
  return hidden * traits.residual +
         std::max({attention, gate_up, down, rooms}) * traits.activation + tables;
}

int64_t HandOverBytes(const ModelConfig& config, const Workload& workload,
                      const ComputeTraits& traits, int64_t stages) {
  if (stages <= 1) return 0;
  const int64_t others = std::min(stages, traits.waiting_batches);
  return others * BatchRows(workload) * config.hidden_size * traits.residual;
}

int64_t ArrivingScores(const ModelConfig& config, const Workload& workload) {
  return 2 * workload.sequences * config.vocab_size * kFloat;
}

int64_t HeadActivations(const ModelConfig& config, const Workload& workload,
                        const ComputeTraits& traits) {
  const int64_t scored = std::min(kScoreRows, workload.sequences);
  return BatchRows(workload) * config.hidden_size * traits.residual +
         scored * 2 * config.hidden_size * traits.activation +
         (scored + workload.sequences) * config.vocab_size * kFloat;
}

int64_t KeptScores(const ModelConfig& config, const Workload& workload,
                   const ComputeTraits& traits) {
  const int64_t most = std::min(workload.sequences, traits.recorded_sequences);
  int64_t rows = 0;
  for (int64_t count = 1; most > 0; count *= 2) {
    rows += count;
    if (count >= most) break;
  }
  return rows * config.vocab_size * kFloat;
}

int64_t FeatureBytes(const ModelConfig& config, const PictureShape& picture) {
  return picture.rows * config.hidden_size * kFloat;
}

int64_t PictureActivations(const ModelConfig& config, const PictureShape& picture,
                           const ComputeTraits& traits) {
  const VisionConfig& vision = config.vision;
  const int64_t view = 3 * vision.tile * vision.tile;
  const int64_t pixels = 3 * picture.width * picture.height + (vision.tiled ? view : 0);
  const int64_t features = ViewsOf(picture, vision) * (vision.patches() + 1) * vision.hidden_size;
  const int64_t merged = vision.tiled ? picture.rows * vision.merged_width() : 0;
  const int64_t together = std::min(kProjectRows, picture.rows);
  const int64_t views = std::max(TowerBytes(picture, vision, traits),
                                 MergeNumbers(picture, vision) * traits.residual);
  const int64_t projection =
      merged * traits.residual + Narrowed(together * vision.merged_width(), traits) +
      2 * together * config.hidden_size * traits.activation + FeatureBytes(config, picture);
  return pixels * kFloat + features * traits.residual + std::max(views, projection);
}

int64_t VisionCopies(const ModelConfig& config, WeightType format) {
  if (format == WeightType::kFloat32) return 0;
  const VisionConfig& vision = config.vision;
  const int64_t separators = vision.tiled ? 2 * vision.merged_width() : 0;
  return kFloat * ((vision.patches() + 2) * vision.hidden_size + separators);
}

namespace {

/// Memory that the kernels of a CPU keep: one that all threads read, and each thread's own. Both
/// only grow.
struct Scratch {
  int64_t shared = 0;
  int64_t thread = 0;
};

Scratch LayerScratch(const ModelConfig& config, const Workload& workload,
                     const ComputeTraits& traits) {
  const int64_t rows = BatchRows(workload);
  int64_t shared = 2 * config.hidden_size;  // a norm's widened weights
  for (const int64_t depth : {config.hidden_size, config.intermediate_size}) {
    shared = std::max(shared, PackedFloats(rows, depth, traits) + 1);
  }
  shared = std::max(shared, RangeFloats(config, workload));
  const int64_t widest =
      std::max({config.wqkv_rows(), config.intermediate_size, config.hidden_size});
  const int64_t scored = std::min(rows, workload.sequences);
  return {.shared = shared * kFloat,
          .thread = std::max(ThreadScratch(rows, widest, config.head_dim(), traits),
                             ThreadScratch(scored, config.vocab_size, config.head_dim(), traits))};
}

Scratch VisionScratch(const ModelConfig& config, const PictureShape& picture,
                      const ComputeTraits& traits) {
  const VisionConfig& vision = config.vision;
  const int64_t rows = TowerViews(picture, vision) * (vision.patches() + 1);
  const auto packed = [&](int64_t count, int64_t depth, int64_t outputs) {
    return RoundUp(outputs, 16) + PackedFloats(count, depth, traits) + 1;
  };
  const int64_t projected = std::min(kProjectRows, picture.rows);
  const int64_t shared =
      std::max({packed(rows - TowerViews(picture, vision), 3 * vision.patch * vision.patch, 0),
                packed(rows, vision.hidden_size, vision.intermediate_size),
                packed(rows, vision.intermediate_size, vision.hidden_size),
                packed(projected, vision.merged_width(), config.hidden_size),
                packed(projected, config.hidden_size, config.hidden_size)});
  const int64_t head_dim = vision.hidden_size / std::max<int64_t>(1, vision.heads);
  const int64_t widest =
      std::max({vision.hidden_size, vision.intermediate_size, config.hidden_size});
  return {.shared = shared * kFloat, .thread = ThreadScratch(rows, widest, head_dim, traits)};
}

int64_t Total(const Scratch& scratch, const ComputeTraits& traits) {
  return scratch.shared + traits.threads * scratch.thread;
}

}  // namespace

int64_t LayerWorkspace(const ModelConfig& config, const Workload& workload,
                       const ComputeTraits& traits) {
  if (!traits.packs_rows) return traits.library_workspace;
  return Total(LayerScratch(config, workload, traits), traits);
}

int64_t VisionWorkspace(const ModelConfig& config, const Workload& workload,
                        const ComputeTraits& traits) {
  if (!traits.packs_rows) return 0;
  const Scratch layers = LayerScratch(config, workload, traits);
  const Scratch tower = VisionScratch(config, workload.picture, traits);
  const Scratch both{.shared = std::max(layers.shared, tower.shared),
                     .thread = std::max(layers.thread, tower.thread)};
  return Total(both, traits) - Total(layers, traits);
}

}  // namespace xcomposer
