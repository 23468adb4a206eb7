#pragma once

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// One block takes a part of the keys of one sequence and key-value head, for all query heads that
// share it: keys and values are read once, whatever the number of heads. Each warp takes 16 keys at
// a time. Scores (16 keys x 8 queries) come from tensor cores, keys as the left factor straight
// from global memory: which of the head's numbers stand where along the sum does not matter as long
// as both factors agree, so that a lane's 16-byte load holds its part of two fragments. Values are
// multiplied without tensor cores, which would want them transposed; memory is the limit either
// way. In flight: 8 KiB of keys and values per warp.

constexpr int kDecodeAttentionWarps = 4;
constexpr int kDecodeAttentionKeys = 16;  // of a warp at a time
constexpr float kLog2E = 1.44269504f;
XCOMPOSER_DEVICE float MinusInfinity() { return FloatOf(0xFF800000); }

/// The running softmax of one lane's two queries, and of all queries of one lane's eight columns.
template <int kGroup>
struct DecodeState {
  float largest[2];
  float sum[2];
  float mixed[kGroup][8];
};

template <typename T, int kDim, int kGroup>
struct DecodeBlock {
  static constexpr int kWarps = kDecodeAttentionWarps;
  static constexpr int kKeys = kDecodeAttentionKeys;
  static constexpr int kSteps = kDim / 32;            // of 32 numbers along a head
  static constexpr int kParts = 32 * 8 / kDim;        // keys whose values one load of a warp brings
  static constexpr int kValueLoads = kKeys / kParts;  // of 16 bytes per lane and tile

  const DecodeAttentionParams& p;
  int sequence;
  int kv;
  int group;
  Shared<float> weights;  // (warps, keys, kGroup): of the values
  Shared<float> factors;  // (warps, kGroup): what earlier sums are multiplied with

  XCOMPOSER_DEVICE void LoadQueries(Vector16 (&q)[kSteps]) const {
    const int query = Lane() / 4;
    const T* in = static_cast<const T*>(p.q) +
                  (sequence * p.shape.heads + kv * group + query) * kDim + Lane() % 4 * 8;
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) q[s] = query < group ? LoadVector(in + 32 * s) : Vector16{};
  }

  /// Which row of the caches holds a key; -1 past the end.
  XCOMPOSER_DEVICE int RowOfKey(int key, int end) const {
    if (key >= end) return -1;
    const int size = static_cast<int>(p.cache.block_size);
    const int32_t* table = p.cache.block_tables + sequence * p.cache.table_stride;
    return Load(table + key / size) * size + key % size;
  }

  XCOMPOSER_DEVICE Vector16 LoadPart(const void* cache, int row, int column) const {
    if (row < 0) return Vector16{};
    return LoadVector(static_cast<const T*>(cache) + (row * p.shape.kv_heads + kv) * kDim + column);
  }

  /// Softmax weights of 16 keys from their scores: into shared memory, and into the running sums.
  XCOMPOSER_DEVICE void Weigh(const float (&scores)[4], int first_key, int end,
                              DecodeState<kGroup>& state) const {
    const float scale = kLog2E / sqrtf(static_cast<float>(kDim));
    XCOMPOSER_UNROLL
    for (int c = 0; c < 2; ++c) {
      const int key = first_key + Lane() / 4;
      const float low = key < end ? scores[c] * scale : MinusInfinity();
      const float high = key + 8 < end ? scores[c + 2] * scale : MinusInfinity();
      float largest = Max(low, high);
      XCOMPOSER_UNROLL
      for (int mask = 4; mask < 32; mask *= 2) largest = Max(largest, ShuffleXor(largest, mask));
      largest = Max(largest, state.largest[c]);
      const float factor = Exp2(state.largest[c] - largest);
      const float low_weight = Exp2(low - largest);
      const float high_weight = Exp2(high - largest);
      state.largest[c] = largest;
      state.sum[c] = state.sum[c] * factor + low_weight + high_weight;
      const int query = Lane() % 4 * 2 + c;
      if (query < kGroup) {
        const int at = (Warp() * kKeys + Lane() / 4) * kGroup + query;
        weights[at] = low_weight;
        weights[at + 8 * kGroup] = high_weight;
        if (Lane() < 4) factors[Warp() * kGroup + query] = factor;
      }
    }
  }

  XCOMPOSER_DEVICE void Mix(const Vector16 (&values)[kValueLoads],
                            DecodeState<kGroup>& state) const {
    XCOMPOSER_UNROLL
    for (int h = 0; h < kGroup; ++h) {
      const float factor = factors[Warp() * kGroup + h];
      XCOMPOSER_UNROLL
      for (int d = 0; d < 8; ++d) state.mixed[h][d] *= factor;
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < kValueLoads; ++i) {
      float eight[8];
      Unpack<T>(values[i], eight);
      const int key = i * kParts + Lane() / (kDim / 8);
      XCOMPOSER_UNROLL
      for (int h = 0; h < kGroup; h += 4) {
        const Vector16 four = LoadVector(weights, (Warp() * kKeys + key) * kGroup + h);
        XCOMPOSER_UNROLL
        for (int k = 0; k < 4; ++k) {
          XCOMPOSER_UNROLL
          for (int d = 0; d < 8; ++d) state.mixed[h + k][d] += FloatOf(four.words[k]) * eight[d];
        }
      }
    }
  }

  /// The keys of this warp among begin .. end - 1.
  XCOMPOSER_DEVICE void Run(int begin, int end, DecodeState<kGroup>& state) const {
    Vector16 q[kSteps];
    LoadQueries(q);
    for (int first = begin + Warp() * kKeys; first < end; first += kWarps * kKeys) {
      const int row = RowOfKey(first + Lane() % kKeys, end);
      Vector16 keys[2][kSteps];
      Vector16 values[kValueLoads];
      XCOMPOSER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int key_row = ShuffleFrom(row, Lane() / 4 + 8 * half);
        XCOMPOSER_UNROLL
        for (int s = 0; s < kSteps; ++s) {
          keys[half][s] = LoadPart(p.cache.keys, key_row, 32 * s + Lane() % 4 * 8);
        }
      }
      XCOMPOSER_UNROLL
      for (int i = 0; i < kValueLoads; ++i) {
        const int value_row = ShuffleFrom(row, i * kParts + Lane() / (kDim / 8));
        values[i] = LoadPart(p.cache.values, value_row, Lane() % (kDim / 8) * 8);
      }
      float scores[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      XCOMPOSER_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        XCOMPOSER_UNROLL
        for (int w = 0; w < 4; w += 2) {
          const uint32_t a[4] = {keys[0][s].words[w], keys[1][s].words[w], keys[0][s].words[w + 1],
                                 keys[1][s].words[w + 1]};
          MultiplyAdd<T>(scores, a, q[s].words[w], q[s].words[w + 1]);
        }
      }
      Weigh(scores, first, end, state);
      SyncWarp();  // the weights are written before other lanes of the warp read them
      Mix(values, state);
      SyncWarp();  // ... and read before the next keys' overwrite them
    }
  }
};

/// Results of several parts of the keys, put together: where each part's numbers lie is the
/// caller's to say. `query` 0 .. group - 1, `column` 0 .. head_dim - 1.
template <typename Largest, typename Sum, typename Mixed>
XCOMPOSER_DEVICE void Combine(int parts, const Largest& largest_of, const Sum& sum_of,
                              const Mixed& mixed_of, float& largest, float& sum, float& mixed) {
  largest = MinusInfinity();
  for (int i = 0; i < parts; ++i) largest = Max(largest, largest_of(i));
  sum = mixed = 0.0f;
  for (int i = 0; i < parts; ++i) {
    const float factor = Exp2(largest_of(i) - largest);
    sum += factor * sum_of(i);
    mixed += factor * mixed_of(i);
  }
}

/// Grid (splits, kv_heads, sequences).
template <typename T, int kDim, int kGroup>
__global__ void __launch_bounds__(32 * kDecodeAttentionWarps)
    DecodeAttentionKernel(DecodeAttentionParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  constexpr int kWarps = kDecodeAttentionWarps;
  const int sequence = BlockZ();
  const int kv = BlockY();
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  T* out = static_cast<T*>(p.out) + (sequence * p.shape.heads + kv * group) * kDim;
  const int keys = Load(p.positions + sequence) + 1;
  if (keys <= 0) {
    if (BlockX() > 0) return;
    for (int i = ThreadIndex(); i < group * kDim; i += 32 * kWarps) Store(out + i, T{0});
    return;
  }
  // Whole tiles of all warps to each part, so that only the last part is ragged.
  constexpr int kTile = kWarps * kDecodeAttentionKeys;
  const int splits = static_cast<int>(p.splits);
  const int per_part = ((keys + splits - 1) / splits + kTile - 1) / kTile * kTile;
  const int parts = (keys + per_part - 1) / per_part;
  const int part = BlockX();
  if (part >= parts) return;

  SharedArena arena;
  const Shared<float> weights = arena.Take<float>(kWarps * kDecodeAttentionKeys * kGroup);
  const Shared<float> factors = arena.Take<float>(kWarps * kGroup);
  const Shared<float> largests = arena.Take<float>(kWarps * kGroup);
  const Shared<float> sums = arena.Take<float>(kWarps * kGroup);
  const Shared<float> mixes = arena.Take<float>(kWarps * kGroup * kDim);
  const Shared<int> is_last = arena.Take<int>(1);

  DecodeState<kGroup> state;
  XCOMPOSER_UNROLL
  for (int c = 0; c < 2; ++c) {
    state.largest[c] = MinusInfinity();
    state.sum[c] = 0.0f;
  }
  XCOMPOSER_UNROLL
  for (int h = 0; h < kGroup; ++h) {
    XCOMPOSER_UNROLL
    for (int d = 0; d < 8; ++d) state.mixed[h][d] = 0.0f;
  }
  const DecodeBlock<T, kDim, kGroup> block{p, sequence, kv, group, weights, factors};
  block.Run(part * per_part, Min(keys, (part + 1) * per_part), state);

  // Lanes that took different keys add up.
  XCOMPOSER_UNROLL
  for (int c = 0; c < 2; ++c) {
    XCOMPOSER_UNROLL
    for (int mask = 4; mask < 32; mask *= 2) state.sum[c] += ShuffleXor(state.sum[c], mask);
    const int query = Lane() * 2 + c;
    if (query < kGroup) {
      largests[Warp() * kGroup + query] = state.largest[c];
      sums[Warp() * kGroup + query] = state.sum[c];
    }
  }
  XCOMPOSER_UNROLL
  for (int h = 0; h < kGroup; ++h) {
    XCOMPOSER_UNROLL
    for (int d = 0; d < 8; ++d) {
      XCOMPOSER_UNROLL
      for (int mask = kDim / 8; mask < 32; mask *= 2) {
        state.mixed[h][d] += ShuffleXor(state.mixed[h][d], mask);
      }
      if (Lane() < kDim / 8) {
        mixes[(Warp() * kGroup + h) * kDim + Lane() * 8 + d] = state.mixed[h][d];
      }
    }
  }
  SyncThreads();  // all warps' results are written before they are put together

  // A part's results: mixed values, then the largest score and the sum of weights of each query.
  const int64_t part_floats = static_cast<int64_t>(group) * (kDim + 2);
  float* partial = p.partial + (sequence * p.shape.kv_heads + kv) * p.splits * part_floats;
  for (int i = ThreadIndex(); i < group * kDim; i += 32 * kWarps) {
    const int h = i / kDim;
    float largest;
    float sum;
    float mixed;
    Combine(
        kWarps, [&](int w) { return static_cast<float>(largests[w * kGroup + h]); },
        [&](int w) { return static_cast<float>(sums[w * kGroup + h]); },
        [&](int w) { return static_cast<float>(mixes[(w * kGroup + h) * kDim + i % kDim]); },
        largest, sum, mixed);
    if (parts == 1) {
      Store(out + i, FromFloat<T>(mixed / sum));
    } else {
      float* own = partial + part * part_floats;
      Store(own + i, mixed);
      if (i % kDim == 0) {
        Store(own + group * kDim + h, largest);
        Store(own + group * kDim + group + h, sum);
      }
    }
  }
  if (parts == 1) return;

  ThreadFence();  // this thread's results are seen before the block is counted
  SyncThreads();  // ... and so are those of all its threads
  if (ThreadIndex() == 0) {
    int* counter = p.counters + sequence * p.shape.kv_heads + kv;
    const bool last = AtomicAdd(counter, 1) == parts - 1;
    if (last) {
      ThreadFence();  // all blocks were counted before their results are read
      Store(counter, 0);
    }
    is_last[0] = last ? 1 : 0;
  }
  SyncThreads();  // thread 0's verdict, and its fence, come before what follows
  if (is_last[0] == 0) return;
  for (int i = ThreadIndex(); i < group * kDim; i += 32 * kWarps) {
    const int h = i / kDim;
    float largest;
    float sum;
    float mixed;
    Combine(
        parts, [&](int s) { return Load(partial + s * part_floats + group * kDim + h); },
        [&](int s) { return Load(partial + s * part_floats + group * kDim + group + h); },
        [&](int s) { return Load(partial + s * part_floats + i); }, largest, sum, mixed);
    Store(out + i, FromFloat<T>(mixed / sum));
  }
}

}  // namespace xcomposer::cuda
