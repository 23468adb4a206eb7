#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/round_up.h"

namespace xcomposer::cpu {
namespace {

// Of a decoding row: keys of a range that is worth a task, and limits of the memory for results.
// src/placement/memory_formula.cpp counts with them.
constexpr int64_t kRangeKeys = 64;
constexpr int64_t kMostRanges = 32;
constexpr int64_t kRangesAtATime = 64;

void RunTasks(const std::vector<AttentionTileArgs>& tasks, KvFormat format, ThreadPool& pool,
              const IsaKernels& kernels) {
  if (tasks.empty()) return;
  const int64_t floats = kernels.attention_scratch(tasks.front().head_dim);
  const auto attention = kernels.attention[static_cast<size_t>(format)];
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), 1,
                   [&](int64_t begin, int64_t end, int worker) {
                     float* scratch = pool.WorkerScratch(worker, floats);
                     for (int64_t i = begin; i < end; ++i) {
                       attention(tasks[static_cast<size_t>(i)], scratch);
                     }
                   });
}

/// Tiles in a task, of `all`: as many as may be, since each task gathers its keys and values, but
/// enough tasks for the threads to share evenly.
int64_t TilesOfTask(int64_t all, const ThreadPool& pool) {
  constexpr int64_t kTasksOfThread = 6;
  return std::clamp<int64_t>(all / (kTasksOfThread * pool.threads()), 1, kAttentionTiles);
}

/// How the rows of one sequence are cut.
struct TileShape {
  TileShape(const PagedAttentionParams& params, const AttentionSequence& sequence, int64_t lanes)
      : group(params.heads / params.kv_heads),
        heads(std::min(group, lanes)),
        rows(std::min(sequence.row_count, lanes / heads)),
        tiles(DivideUp(sequence.row_count, rows) * DivideUp(group, heads) * params.kv_heads) {}

  int64_t group;  ///< query heads of a key-value head
  int64_t heads;
  int64_t rows;
  int64_t tiles;  ///< of all heads
};

/// The tasks of one sequence and one key-value head. Long ones first: they see the most keys.
void AddTasks(const PagedAttentionParams& params, const AttentionSequence& sequence,
              int64_t kv_head, const TileShape& tile, int64_t tiles,
              std::vector<AttentionTileArgs>& tasks) {
  const int64_t dim = params.head_dim;
  const int64_t task_rows = tiles * tile.rows;
  const int64_t head_bytes = KvHeadBytes(params.format, dim);
  const int64_t key_stride = params.kv_heads * head_bytes;
  for (int64_t task = DivideUp(sequence.row_count, task_rows) - 1; task >= 0; --task) {
    const int64_t row = task * task_rows;
    for (int64_t head = 0; head < tile.group; head += tile.heads) {
      const int64_t query =
          ((sequence.first_row + row) * params.heads + kv_head * tile.group + head) * dim;
      tasks.push_back({.q = params.q + query,
                       .out = params.out + query,
                       .row_stride = params.heads * dim,
                       .head_stride = dim,
                       .rows = std::min(task_rows, sequence.row_count - row),
                       .tile_rows = tile.rows,
                       .heads = std::min(tile.heads, tile.group - head),
                       .head_dim = dim,
                       .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                       .k = static_cast<const char*>(params.k_cache) + kv_head * head_bytes,
                       .v = static_cast<const char*>(params.v_cache) + kv_head * head_bytes,
                       .blocks = sequence.block_table,
                       .block_size = params.block_size,
                       .block_stride = params.block_size * key_stride,
                       .key_stride = key_stride,
                       .keys = sequence.position + row + 1,
                       .keys_per_row = 1});
    }
  }
}

/// The keys of one decoding row as ranges of about equal length. They depend on their number only,
/// so that a row's result depends neither on the threads nor on the rest of the batch.
struct KeyRanges {
  explicit KeyRanges(int64_t keys)
      : keys(keys),
        count(std::clamp<int64_t>(DivideUp(keys, kRangeKeys), 1, kMostRanges)),
        length(DivideUp(keys, count)) {}

  int64_t begin(int64_t i) const { return std::min(keys, i * length); }

  int64_t keys;
  int64_t count;
  int64_t length;
};

/// What a range leaves of a row: (heads, dim) sums, then maxima and totals, each by head.
struct RangeResult {
  RangeResult(const PagedAttentionParams& params, float* memory)
      : sums(memory),
        maximum(memory + params.heads * params.head_dim),
        total(maximum + params.heads) {}

  static int64_t Floats(const PagedAttentionParams& params) {
    return params.heads * (params.head_dim + 2);
  }

  float* sums;
  float* maximum;
  float* total;
};

/// Puts the ranges of a row together: each was summed against a maximum of its own.
void Combine(const PagedAttentionParams& params, const std::vector<RangeResult>& ranges,
             float* out) {
  const int64_t dim = params.head_dim;
  for (int64_t head = 0; head < params.heads; ++head, out += dim) {
    float maximum = ranges.front().maximum[head];
    for (const RangeResult& range : ranges) maximum = std::max(maximum, range.maximum[head]);
    float total = 0.0f;
    std::fill(out, out + dim, 0.0f);
    for (const RangeResult& range : ranges) {
      const float decay = std::exp(range.maximum[head] - maximum);
      total += decay * range.total[head];
      const float* sums = range.sums + head * dim;
      for (int64_t d = 0; d < dim; ++d) out[d] += decay * sums[d];
    }
    for (int64_t d = 0; d < dim; ++d) out[d] /= total;
  }
}

/// Attention of sequences [begin, end), of one row each.
void AttendRows(const PagedAttentionParams& params, const std::vector<AttentionSequence>& rows,
                size_t begin, size_t end, ThreadPool& pool, const IsaKernels& kernels) {
  struct Task {
    const AttentionSequence* sequence;
    int64_t first_key;
    int64_t end_key;
  };
  std::vector<Task> tasks;
  for (size_t s = begin; s < end; ++s) {
    const KeyRanges ranges(rows[s].position + 1);
    for (int64_t i = 0; i < ranges.count; ++i) {
      tasks.push_back({&rows[s], ranges.begin(i), ranges.begin(i + 1)});
    }
  }
  const auto attention_row = kernels.attention_row[static_cast<size_t>(params.format)];
  const int64_t floats = RangeResult::Floats(params);
  float* results = pool.SharedScratch(static_cast<int64_t>(tasks.size()) * floats);
  const int64_t scratch = kernels.attention_row_scratch(params.heads);
  const int64_t row_floats = params.heads * params.head_dim;
  const auto run = [&](const Task& task, const RangeResult& result, int worker) {
    attention_row({.q = params.q + task.sequence->first_row * row_floats,
                   .heads = params.heads,
                   .kv_heads = params.kv_heads,
                   .head_dim = params.head_dim,
                   .scale = 1.0f / std::sqrt(static_cast<float>(params.head_dim)),
                   .k = params.k_cache,
                   .v = params.v_cache,
                   .blocks = task.sequence->block_table,
                   .block_size = params.block_size,
                   .first_key = task.first_key,
                   .end_key = task.end_key,
                   .sums = result.sums,
                   .maximum = result.maximum,
                   .total = result.total},
                  pool.WorkerScratch(worker, scratch));
  };
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), 1,
                   [&](int64_t first, int64_t last, int worker) {
                     for (int64_t i = first; i < last; ++i) {
                       run(tasks[static_cast<size_t>(i)], {params, results + i * floats}, worker);
                     }
                   });
  size_t task = 0;
  for (size_t s = begin; s < end; ++s) {
    std::vector<RangeResult> ranges;
    for (; task < tasks.size() && tasks[task].sequence == &rows[s]; ++task) {
      ranges.emplace_back(params, results + static_cast<int64_t>(task) * floats);
    }
    Combine(params, ranges, params.out + rows[s].first_row * row_floats);
  }
}

}  // namespace

void PagedAttention(const PagedAttentionParams& params, const Context& context) {
  PagedAttention(params, context.pool, KernelsFor(context.isa, context.activations));
}

void PagedAttention(const PagedAttentionParams& params, ThreadPool& pool,
                    const IsaKernels& kernels) {
  const int64_t lanes = kernels.attention_lanes;
  std::vector<const AttentionSequence*> prompts;
  std::vector<AttentionSequence> rows;  // of sequences that have one, as in decoding
  int64_t tiles = 0;
  for (int64_t s = 0; s < params.sequence_count; ++s) {
    const AttentionSequence& sequence = params.sequences[s];
    if (sequence.row_count == 1) rows.push_back(sequence);
    if (sequence.row_count <= 1) continue;
    prompts.push_back(&sequence);
    tiles += TileShape(params, sequence, lanes).tiles;
  }
  std::vector<AttentionTileArgs> tasks;
  const int64_t task_tiles = TilesOfTask(tiles, pool);
  for (const AttentionSequence* prompt : prompts) {
    const TileShape tile(params, *prompt, lanes);
    for (int64_t kv_head = 0; kv_head < params.kv_heads; ++kv_head) {
      AddTasks(params, *prompt, kv_head, tile, task_tiles, tasks);
    }
  }
  RunTasks(tasks, params.format, pool, kernels);
  // So many sequences at a time that the results of their ranges take little memory.
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin;
    for (int64_t ranges = 0; end < rows.size(); ++end) {
      ranges += KeyRanges(rows[end].position + 1).count;
      if (end > begin && ranges > kRangesAtATime) break;
    }
    AttendRows(params, rows, begin, end, pool, kernels);
    begin = end;
  }
}

void VisionAttention(const VisionAttentionParams& params, const Context& context) {
  VisionAttention(params, context.pool, KernelsFor(context.isa, context.activations));
}

void VisionAttention(const VisionAttentionParams& params, ThreadPool& pool,
                     const IsaKernels& kernels) {
  const int64_t lanes = kernels.attention_lanes;
  const int64_t dim = params.head_dim;
  const int64_t row_stride = params.heads * dim;
  // Tiles of equal size, so that the last one of a view is not a crumb.
  const int64_t per_head = DivideUp(params.rows, lanes);
  if (params.views <= 0 || per_head == 0) return;
  const int64_t tile_rows = DivideUp(params.rows, per_head);
  const int64_t task_rows = tile_rows * TilesOfTask(params.views * params.heads * per_head, pool);
  const int32_t only_block = 0;
  std::vector<AttentionTileArgs> tasks;
  for (int64_t view = 0; view < params.views; ++view) {
    for (int64_t head = 0; head < params.heads; ++head) {
      const int64_t start = view * params.rows * row_stride + head * dim;
      for (int64_t row = 0; row < params.rows; row += task_rows) {
        tasks.push_back({.q = params.q + start + row * row_stride,
                         .out = params.out + start + row * row_stride,
                         .row_stride = row_stride,
                         .head_stride = dim,
                         .rows = std::min(task_rows, params.rows - row),
                         .tile_rows = tile_rows,
                         .heads = 1,
                         .head_dim = dim,
                         .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                         .k = params.k + start,
                         .v = params.v + start,
                         .blocks = &only_block,
                         .block_size = params.rows,
                         .block_stride = 0,
                         .key_stride = row_stride * int64_t{sizeof(float)},
                         .keys = params.rows,
                         .keys_per_row = 0});
      }
    }
  }
  RunTasks(tasks, KvFormat::kFloat32, pool, kernels);
}

}  // namespace xcomposer::cpu
