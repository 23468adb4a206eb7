#pragma once

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// One block takes a part of the keys of one sequence and key-value head, for all query heads that
// share it: keys and values are read once, whatever the number of heads. Each warp takes 16 keys at
// a time, and both products of a tile come from tensor cores, straight from registers:
//
//   scores (8 queries x 16 keys) = q k^T     q is the left factor, keys are the right one's columns
//   mixed (head_dim x 8 queries) += v^T p^T  values are the left factor, weights the right one
//
// A lane holds the weights that come out of the first product just where the second one wants its
// right factor. Which of a head's numbers stand where does not matter as long as it is the same on
// both sides, so that every load is of 16 bytes: along the first product's sum, and over the second
// one's rows. Two keys' values are interleaved in registers, since their pairs lie along the sum.
//
// The keys of the next tile are on their way while this one's weights are formed, its values while
// the next one's scores are: 4 to 8 KiB per warp. Block tables are read a tile further ahead.

constexpr int kDecodeAttentionWarps = 6;
constexpr int kDecodeAttentionResident = 2;  // blocks of a multiprocessor, at 168 registers
constexpr int kDecodeAttentionKeys = 16;     // of a warp at a time
constexpr int kDecodeAttentionQueries = 8;   // columns of a tensor core's right factor
constexpr float kLog2E = 1.44269504f;
XCOMPOSER_DEVICE float MinusInfinity() { return FloatOf(0xFF800000); }

/// The largest score of one query and the sum of weights relative to it.
struct alignas(8) SoftmaxPart {
  float largest;
  float sum;
};

XCOMPOSER_DEVICE uint32_t LowHalves(uint32_t a, uint32_t b) { return (a & 0xFFFFu) | b << 16; }
XCOMPOSER_DEVICE uint32_t HighHalves(uint32_t a, uint32_t b) { return a >> 16 | (b & 0xFFFF0000u); }

/// One warp's way through its share of the keys. With g = lane / 4 and t = lane % 4, a lane holds
/// of the queries: number g; of the keys: g and g + 8; of the values: parts g and g + 8 (of 8
/// numbers) of keys 2t, 2t + 1, 2t + 8 and 2t + 9.
template <typename T, int kDim>
struct DecodeWarp {
  static constexpr int kKeys = kDecodeAttentionKeys;
  static constexpr int kStride = kDecodeAttentionWarps * kKeys;  // from tile to tile of a warp
  static constexpr int kSteps = kDim / 32;                       // of 32 numbers along a head
  static constexpr int kParts = kDim / 64;  // of 8 of a key's values in one lane
  static constexpr int kMixed = kDim / 16;  // tensor-core tiles of 16 of a head's numbers
  static constexpr int kLine = 128 / 2;     // numbers

  /// Where a key lies: its block, which is on its way from the table, and its place in there.
  struct Place {
    int block;
    int within;
  };

  const DecodeAttentionParams& p;
  const int32_t* table;
  int kv;
  int first;  // key of the next tile
  int end;    // of the keys
  Place next;
  Place after;

  float largest = MinusInfinity();  // of query g
  float sum = 0.0f;                 // of query g, this lane's keys
  // Of tile m: of lane's numbers m and m + kMixed, for queries 2t and 2t + 1.
  float mixed[kMixed][4];

  XCOMPOSER_DEVICE DecodeWarp(const DecodeAttentionParams& params, int sequence, int kv, int begin,
                              int end)
      : p(params),
        table(params.cache.block_tables + sequence * params.cache.table_stride),
        kv(kv),
        first(begin + Warp() * kKeys),
        end(end) {
    next = Find(first);
    after = Find(first + kStride);
    XCOMPOSER_UNROLL
    for (int m = 0; m < kMixed; ++m) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) mixed[m][i] = 0.0f;
    }
  }

  /// Of the tile from `key` on, the key of this lane and the one 16 lanes away. Past the end the
  /// last key, whose weight there is zero.
  XCOMPOSER_DEVICE Place Find(int key) const {
    const auto at = static_cast<uint32_t>(Min(key + Lane() % kKeys, end - 1));
    const auto size = static_cast<uint32_t>(p.cache.block_size);
    const uint32_t block = at / size;
    return {LoadSettled(table + block), static_cast<int>(at - block * size)};
  }

  XCOMPOSER_DEVICE int RowOf(const Place& place) const {
    return place.block * static_cast<int>(p.cache.block_size) + place.within;
  }
  XCOMPOSER_DEVICE const T* Head(const void* cache, int row) const {
    const auto numbers = static_cast<int>(p.shape.kv_heads) * kDim;  // of a row
    return static_cast<const T*>(cache) + kv * kDim + int64_t{row} * numbers;
  }

  /// Fetches the first tiles into the level-2 cache, where no kernel's later writes are missed.
  XCOMPOSER_DEVICE void Prefetch() const {
    if (first < end) PrefetchTile(RowOf(next));
    if (first + kStride < end) PrefetchTile(RowOf(after));
  }
  XCOMPOSER_DEVICE void PrefetchTile(int row) const {
    for (int d = Lane() / kKeys * kLine; d < kDim; d += 2 * kLine) {
      PrefetchL2(Head(p.cache.keys, row) + d);
      PrefetchL2(Head(p.cache.values, row) + d);
    }
  }

  /// As Score wants them.
  XCOMPOSER_DEVICE void LoadQueries(int sequence, uint32_t (&q)[kSteps][4]) const {
    const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
    const int query = Lane() / 4;
    const T* in = static_cast<const T*>(p.q) +
                  (sequence * p.shape.heads + kv * group + query) * kDim + Lane() % 4 * 8;
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const Vector16 eight = query < group ? LoadVector(in + 32 * s) : Vector16{};
      q[s][0] = eight.words[0];
      q[s][1] = eight.words[2];
      q[s][2] = eight.words[1];
      q[s][3] = eight.words[3];
    }
  }

  XCOMPOSER_DEVICE void LoadKeys(const Place& place, Vector16 (&keys)[2][kSteps]) const {
    const int row = RowOf(place);
    XCOMPOSER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const T* key = Head(p.cache.keys, ShuffleFrom(row, Lane() / 4 + 8 * half)) + Lane() % 4 * 8;
      XCOMPOSER_UNROLL
      for (int s = 0; s < kSteps; ++s) keys[half][s] = LoadVector(key + 32 * s);
    }
  }

  XCOMPOSER_DEVICE void LoadValues(const Place& place, Vector16 (&values)[4][kParts]) const {
    const int row = RowOf(place);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int key = Lane() % 4 * 2 + i % 2 + i / 2 * 8;
      const T* value = Head(p.cache.values, ShuffleFrom(row, key)) + Lane() / 4 * 8;
      XCOMPOSER_UNROLL
      for (int part = 0; part < kParts; ++part) values[i][part] = LoadVector(value + 64 * part);
    }
  }

  /// Scores of query g with keys 2t, 2t + 1, 2t + 8 and 2t + 9. There are 8 queries to a left
  /// factor's 16 rows: rows 0 to 7 hold one half of their numbers and rows 8 to 15 the other. Each
  /// half of the keys' numbers meets both, and only the results of its own rows mean something.
  XCOMPOSER_DEVICE void Score(const uint32_t (&q)[kSteps][4], const Vector16 (&keys)[2][kSteps],
                              float (&scores)[4]) const {
    XCOMPOSER_UNROLL
    for (int half = 0; half < 2; ++half) {
      float low[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      float high[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      XCOMPOSER_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        const Vector16& key = keys[half][s];
        MultiplyAdd<T>(low, q[s], key.words[0], key.words[1]);
        MultiplyAdd<T>(high, q[s], key.words[2], key.words[3]);
      }
      scores[2 * half] = low[0] + high[2];
      scores[2 * half + 1] = low[1] + high[3];
    }
  }

  /// Softmax weights from scores. What was summed up before is scaled to the new largest score.
  XCOMPOSER_DEVICE void Weigh(float (&scores)[4]) {
    const float scale = kLog2E / sqrtf(static_cast<float>(kDim));
    float now = largest;
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int key = first + Lane() % 4 * 2 + i % 2 + i / 2 * 8;
      scores[i] = key < end ? scores[i] * scale : MinusInfinity();
      now = Max(now, scores[i]);
    }
    now = Max(now, ShuffleXor(now, 1));
    now = Max(now, ShuffleXor(now, 2));
    const float factor = Exp2(largest - now);
    largest = now;
    sum *= factor;
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {
      scores[i] = Exp2(scores[i] - now);
      sum += scores[i];
    }
    const float factors[2] = {ShuffleFrom(factor, Lane() % 4 * 8),
                              ShuffleFrom(factor, Lane() % 4 * 8 + 4)};  // of queries 2t, 2t + 1
    XCOMPOSER_UNROLL
    for (int m = 0; m < kMixed; ++m) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) mixed[m][i] *= factors[i % 2];
    }
  }

  XCOMPOSER_DEVICE void Mix(const float (&weights)[4], const Vector16 (&values)[4][kParts]) {
    const uint32_t low = Pack<T>(weights[0], weights[1]);
    const uint32_t high = Pack<T>(weights[2], weights[3]);
    // Of the lane's number `n` of its parts: of keys 2t and 2t + 1 (i = 0), or 8 further (i = 2).
    const auto pair = [&](int n, int i) {
      const uint32_t even = values[i][n / 8].words[n % 8 / 2];
      const uint32_t odd = values[i + 1][n / 8].words[n % 8 / 2];
      return n % 2 == 0 ? LowHalves(even, odd) : HighHalves(even, odd);
    };
    XCOMPOSER_UNROLL
    for (int m = 0; m < kMixed; ++m) {
      const uint32_t a[4] = {pair(m, 0), pair(m + kMixed, 0), pair(m, 2), pair(m + kMixed, 2)};
      MultiplyAdd<T>(mixed[m], a, low, high);
    }
  }

  XCOMPOSER_DEVICE void Run(int sequence) {
    if (first >= end) return;
    uint32_t q[kSteps][4];
    Vector16 keys[2][kSteps];
    Vector16 values[4][kParts];
    LoadQueries(sequence, q);
    LoadKeys(next, keys);
    LoadValues(next, values);
    for (; first < end; first += kStride) {
      const bool more = first + kStride < end;
      float scores[4];
      Score(q, keys, scores);
      if (more) LoadKeys(after, keys);
      Weigh(scores);
      Mix(scores, values);
      if (more) {
        LoadValues(after, values);
        after = Find(first + 2 * kStride);
      }
    }
  }

  /// To shared memory: `parts` (warps, queries) and `mixes` (warps, group, kDim).
  XCOMPOSER_DEVICE void Give(int group, const Shared<SoftmaxPart>& parts,
                             const Shared<float>& mixes) {
    sum += ShuffleXor(sum, 1);
    sum += ShuffleXor(sum, 2);
    const int g = Lane() / 4;
    const int t = Lane() % 4;
    if (t == 0) parts[Warp() * kDecodeAttentionQueries + g] = SoftmaxPart{largest, sum};
    XCOMPOSER_UNROLL
    for (int c = 0; c < 2; ++c) {
      const int query = 2 * t + c;
      if (query >= group) continue;
      XCOMPOSER_UNROLL
      for (int n = 0; n < 2 * kMixed; n += 4) {
        Vector16 four;
        XCOMPOSER_UNROLL
        for (int i = 0; i < 4; ++i) {
          four.words[i] = BitsOf(mixed[(n + i) % kMixed][(n + i) / kMixed * 2 + c]);
        }
        const int column = (g + n / 8 * 8) * 8 + n % 8;
        StoreVector(mixes, (Warp() * group + query) * kDim + column, four);
      }
    }
  }
};

/// One query's results, as one warp puts them together from several parts of the keys: four of its
/// numbers in each lane (the last lanes have none of a small head).
struct JoinedQuery {
  float largest = MinusInfinity();
  float sum = 0.0f;
  float mixed[4] = {0.0f, 0.0f, 0.0f, 0.0f};

  XCOMPOSER_DEVICE void Add(float factor, const Vector16& four) {
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) mixed[i] += factor * FloatOf(four.words[i]);
  }

  template <typename T>
  XCOMPOSER_DEVICE void StoreDivided(T* out) const {
    const float scale = 1.0f / sum;
    const uint64_t low = Pack<T>(mixed[0] * scale, mixed[1] * scale);
    const uint64_t high = Pack<T>(mixed[2] * scale, mixed[3] * scale);
    Store(reinterpret_cast<uint64_t*>(out), low | high << 32);
  }
};

/// The block's warps.
template <int kDim>
XCOMPOSER_DEVICE JoinedQuery JoinWarps(int query, int group, const Shared<SoftmaxPart>& parts,
                                       const Shared<float>& mixes) {
  constexpr int kWarps = kDecodeAttentionWarps;
  JoinedQuery joined;
  SoftmaxPart of[kWarps];
  XCOMPOSER_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    of[w] = parts[w * kDecodeAttentionQueries + query];
    joined.largest = Max(joined.largest, of[w].largest);
  }
  XCOMPOSER_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    const float factor = Exp2(of[w].largest - joined.largest);
    joined.sum += factor * of[w].sum;
    if (4 * Lane() < kDim) {
      joined.Add(factor, LoadVector(mixes, (w * group + query) * kDim + 4 * Lane()));
    }
  }
  return joined;
}

/// The blocks that shared the keys: `parts` (count), and `mixes`, of which two parts lie `stride`
/// apart. Eight loads at a time are on their way, the first ones before any factor is known.
template <int kDim>
XCOMPOSER_DEVICE JoinedQuery JoinBlocks(int count, const SoftmaxPart* parts, const float* mixes,
                                        int64_t stride) {
  const int column = 4 * Lane() % kDim;
  Vector16 eight[8];
  const auto load = [&](int first) {
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) {
      eight[k] = LoadVector(mixes + Min(first + k, count - 1) * stride + column);
    }
  };
  load(0);
  JoinedQuery joined;
  for (int i = Lane(); i < count; i += 32) {
    joined.largest = Max(joined.largest, Load(parts + i).largest);
  }
  XCOMPOSER_UNROLL
  for (int mask = 1; mask < 32; mask *= 2) {
    joined.largest = Max(joined.largest, ShuffleXor(joined.largest, mask));
  }
  float factor = 0.0f;  // of the part that this lane looks at for all
  for (int first = 0; first < count; first += 8) {
    if (first % 32 == 0) {
      const int own = first + Lane();
      const SoftmaxPart part = own < count ? Load(parts + own) : SoftmaxPart{MinusInfinity(), 0.0f};
      factor = Exp2(part.largest - joined.largest);
      joined.sum += factor * part.sum;
    }
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) joined.Add(ShuffleFrom(factor, first % 32 + k), eight[k]);
    if (first + 8 < count) load(first + 8);
  }
  joined.sum = WarpSum(joined.sum);
  return joined;
}

/// Grid (splits, kv_heads, sequences).
template <typename T, int kDim>
__global__ void __launch_bounds__(32 * kDecodeAttentionWarps, kDecodeAttentionResident)
    DecodeAttentionKernel(DecodeAttentionParams p) {
  GridDependencyLaunch();
  constexpr int kWarps = kDecodeAttentionWarps;
  const int sequence = BlockZ();
  const int kv = BlockY();
  const int part = BlockX();
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  T* out = static_cast<T*>(p.out) + (sequence * p.shape.heads + kv * group) * kDim;
  const int keys = LoadSettled(p.positions + sequence) + 1;
  // Whole tiles of all warps to each part, so that only the last part is ragged.
  constexpr int kTile = kWarps * kDecodeAttentionKeys;
  const int splits = static_cast<int>(p.splits);
  const int per_part = ((keys + splits - 1) / splits + kTile - 1) / kTile * kTile;
  const int parts = keys > 0 ? (keys + per_part - 1) / per_part : 0;
  if (part >= parts) {
    GridDependencyWait();
    if (part > 0 || keys > 0) return;
    for (int i = ThreadIndex(); i < group * kDim; i += 32 * kWarps) Store(out + i, T{0});
    return;
  }
  DecodeWarp<T, kDim> warp(p, sequence, kv, part * per_part, Min(keys, (part + 1) * per_part));
  warp.Prefetch();
  GridDependencyWait();
  warp.Run(sequence);

  SharedArena arena;
  const Shared<SoftmaxPart> softmax = arena.Take<SoftmaxPart>(kWarps * kDecodeAttentionQueries);
  const Shared<float> mixes = arena.Take<float>(kWarps * group * kDim);
  const Shared<int> is_last = arena.Take<int>(1);
  warp.Give(group, softmax, mixes);
  SyncThreads();  // all warps' results are written before they are put together

  // What the blocks leave for the last one: mixed values (sequences, kv_heads, splits, group,
  // kDim), then the softmax parts (sequences, kv_heads, group, splits).
  const int64_t head = sequence * p.shape.kv_heads + kv;
  const int64_t stride = static_cast<int64_t>(group) * kDim;
  float* partial_mixes = p.partial + head * splits * stride;
  auto* partial_softmax =
      reinterpret_cast<SoftmaxPart*>(p.partial + p.sequences * p.shape.heads * splits * kDim) +
      head * group * splits;
  for (int query = Warp(); query < group; query += kWarps) {
    const JoinedQuery joined = JoinWarps<kDim>(query, group, softmax, mixes);
    const int64_t at = query * kDim + 4 * Lane();
    if (parts == 1) {
      if (4 * Lane() < kDim) joined.StoreDivided(out + at);
      continue;
    }
    if (4 * Lane() < kDim) {
      Vector16 four;
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) four.words[i] = BitsOf(joined.mixed[i]);
      StoreVector(partial_mixes + part * stride + at, four);
    }
    if (Lane() == 0) {
      Store(partial_softmax + query * splits + part, SoftmaxPart{joined.largest, joined.sum});
    }
  }
  if (parts == 1) return;

  SyncThreads();  // all of the block's results are written before thread 0 counts it
  if (ThreadIndex() == 0) {
    int* counter = p.counters + head;
    const bool last = AtomicAddOrdered(counter, 1) == parts - 1;
    if (last) Store(counter, 0);
    is_last[0] = last ? 1 : 0;
  }
  SyncThreads();  // thread 0's verdict, and the order it made, come before what follows
  if (is_last[0] == 0) return;
  for (int query = Warp(); query < group; query += kWarps) {
    const JoinedQuery joined = JoinBlocks<kDim>(parts, partial_softmax + query * splits,
                                                partial_mixes + query * kDim, stride);
    if (4 * Lane() < kDim) joined.StoreDivided(out + query * kDim + 4 * Lane());
  }
}

}  // namespace xcomposer::cuda
