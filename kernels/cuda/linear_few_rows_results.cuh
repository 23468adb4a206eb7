#pragma once

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/linear_few_rows.h"

namespace xcomposer::cuda {

// What becomes of the sums of a product of few rows (linear_few_rows.cuh).

constexpr int kFewRowsUnit = 32;  // rows of weights that a warp takes: two tiles of 16

enum class FewRowsResult { kStored, kFloat, kAdd, kGateUp, kRotated };

/// What a kernel does, whichever product it is.
struct FewRowsTask {
  const void* x = nullptr;
  WeightMatrix weight;
  WeightMatrix second;  ///< kGateUp: w3
  int rows = 0;
  FewRowsShape shape;
  FewRowsResult result = FewRowsResult::kStored;
  void* y = nullptr;
  float* partial = nullptr;     ///< (blocks_k, blocks along N, rows, the block's outputs)
  int32_t* counters = nullptr;  ///< (blocks along N)
  HeadShape heads;              ///< this and what follows: kRotated, where y is q
  const float* cos = nullptr;
  const float* sin = nullptr;
  const int64_t* slots = nullptr;
  void* k_cache = nullptr;
  void* v_cache = nullptr;
};

/// The sums of all warps in shared memory, where the ring was: (warps, tiles of the unit, rows of
/// x, 16 rows of weights), rows of x 20 numbers apart, so that fragments meet no bank twice.
struct FewRowsSums {
  static constexpr int kStride = 20;

  Shared<float> parts;
  Shared<int> is_last;
  FewRowsShape shape;
  int inputs;  // rows of x, filled up to whole tiles

  XCOMPOSER_DEVICE int Place(int warp, int tile, int row, int i) const {
    return ((warp * 2 + tile) * inputs + row) * kStride + i;
  }
  XCOMPOSER_DEVICE float Sum(int warp_n, int tile, int row, int i) const {
    float sum = 0.0f;
    for (int k = 0; k < shape.warps_k; ++k) {
      sum += parts[Place(k * shape.warps_n + warp_n, tile, row, i)];
    }
    return sum;
  }
  /// Of the block's output c, where tiles are neighbours.
  XCOMPOSER_DEVICE float SumOf(int row, int c) const {
    return Sum(c / kFewRowsUnit, c / 16 % 2, row, c % 16);
  }
};

template <int kTiles>
XCOMPOSER_DEVICE FewRowsSums ShareSums(const FewRowsTask& p, const float (&sums)[2][kTiles][4]) {
  SyncThreads();  // all warps have read the last stage before sums take its place
  SharedArena arena;
  const int warps = p.shape.warps_n * p.shape.warps_k;
  const Shared<float> parts = arena.Take<float>(warps * 2 * kTiles * 8 * FewRowsSums::kStride);
  const FewRowsSums out{parts, arena.Take<int>(1), p.shape, kTiles * 8};
  XCOMPOSER_UNROLL
  for (int m = 0; m < 2; ++m) {
    XCOMPOSER_UNROLL
    for (int n = 0; n < kTiles; ++n) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) {
        out.parts[out.Place(Warp(), m, 8 * n + Lane() % 4 * 2 + i % 2, Lane() / 4 + i / 2 * 8)] =
            sums[m][n][i];
      }
    }
  }
  SyncThreads();  // all warps' parts are written before they are added up
  return out;
}

// What follows calls value(...), which loads, for several results before it calls store(...) for
// them, so that as many loads are under way. Warps or halves of them take a row of a unit at a
// time: neighbouring lanes take neighbouring outputs.

/// value(row of x, c) and store(row of x, c, value) for all of the block's outputs, numbered c.
template <typename ValueOf, typename StoreOne>
XCOMPOSER_DEVICE void ForOutputs(const FewRowsTask& p, const ValueOf& value,
                                 const StoreOne& store) {
  constexpr int kBatch = 8;
  const int warps = BlockThreads() / 32;
  const int units = p.shape.warps_n;
  const int outputs = static_cast<int>(p.weight.rows) - BlockX() * units * kFewRowsUnit;
  for (int first = Warp(); first < p.rows * units; first += kBatch * warps) {
    float values[kBatch];
    XCOMPOSER_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      const int row = (first + i * warps) / units;
      const int c = (first + i * warps) % units * kFewRowsUnit + Lane();
      if (row < p.rows && c < outputs) values[i] = value(row, c);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      const int row = (first + i * warps) / units;
      const int c = (first + i * warps) % units * kFewRowsUnit + Lane();
      if (row < p.rows && c < outputs) store(row, c, values[i]);
    }
  }
}

struct FewRowsPair {
  float first = 0.0f;
  float second = 0.0f;
  int64_t slot = 0;  // kRotated
};

/// The same for pairs: value(row of x, unit, row of its tiles, the sums).
template <typename ValueOf, typename StoreOne>
XCOMPOSER_DEVICE void ForPairs(const FewRowsTask& p, const FewRowsSums& sums, int all_units,
                               const ValueOf& value, const StoreOne& store) {
  constexpr int kBatch = 4;
  const int halves = BlockThreads() / 16;
  const int units = Min(p.shape.warps_n, all_units - BlockX() * p.shape.warps_n);
  const int first_unit = BlockX() * p.shape.warps_n;
  const int i = Lane() % 16;
  for (int first = ThreadIndex() / 16; first < p.rows * units; first += kBatch * halves) {
    FewRowsPair values[kBatch];
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int row = (first + b * halves) / units;
      const int unit = (first + b * halves) % units;
      if (row >= p.rows) break;
      values[b] = value(row, first_unit + unit, i,
                        FewRowsPair{sums.Sum(unit, 0, row, i), sums.Sum(unit, 1, row, i), 0});
    }
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int row = (first + b * halves) / units;
      if (row >= p.rows) break;
      store(row, first_unit + (first + b * halves) % units, i, values[b]);
    }
  }
}

/// Where results j and j + head_dim / 2 of queries, keys and values come and go.
template <typename T>
struct FewRowsRotation {
  const FewRowsTask& p;
  int half;
  int group;

  XCOMPOSER_DEVICE explicit FewRowsRotation(const FewRowsTask& task)
      : p(task),
        half(static_cast<int>(task.heads.head_dim) / 2),
        group(static_cast<int>(task.heads.heads / task.heads.kv_heads)) {}

  /// < group: a query, then the key, the value.
  XCOMPOSER_DEVICE int Place(int unit) const { return unit / (half / 16) % (group + 2); }
  XCOMPOSER_DEVICE int KvHead(int unit) const { return unit / (half / 16) / (group + 2); }
  XCOMPOSER_DEVICE int Number(int unit, int i) const { return unit % (half / 16) * 16 + i; }

  XCOMPOSER_DEVICE FewRowsPair Rotated(int row, int unit, int i, const FewRowsPair& x) const {
    const int place = Place(unit);
    FewRowsPair out = x;
    if (place >= group) out.slot = Load(p.slots + row);
    if (place > group) return out;
    const int j = Number(unit, i);
    const float cos = Load(p.cos + row * half + j);
    const float sin = Load(p.sin + row * half + j);
    out.first = x.first * cos - x.second * sin;
    out.second = x.second * cos + x.first * sin;
    return out;
  }

  XCOMPOSER_DEVICE void Put(int row, int unit, int i, const FewRowsPair& x) const {
    const int place = Place(unit);
    const int kv = KvHead(unit);
    T* out = static_cast<T*>(p.y) + (row * p.heads.heads + kv * group + place) * 2 * half;
    if (place >= group) {
      if (x.slot < 0) return;
      void* cache = place == group ? p.k_cache : p.v_cache;
      out = static_cast<T*>(cache) + (x.slot * p.heads.kv_heads + kv) * 2 * half;
    }
    const int j = Number(unit, i);
    Store(out + j, FromFloat<T>(x.first));
    Store(out + j + half, FromFloat<T>(x.second));
  }
};

/// y += the block's sums; where blocks share out K, those of all of them, in their order, by the
/// one that comes last.
XCOMPOSER_DEVICE void AddSums(const FewRowsTask& p, const FewRowsSums& sums) {
  const int width = p.shape.warps_n * kFewRowsUnit;
  float* y = static_cast<float*>(p.y) + BlockX() * width;
  const auto put = [&](int row, int c, float value) { Store(y + row * p.weight.rows + c, value); };
  if (p.shape.blocks_k == 1) {
    return ForOutputs(
        p, [&](int row, int c) { return Load(y + row * p.weight.rows + c) + sums.SumOf(row, c); },
        put);
  }
  const auto place = [&](int block, int row, int c) {
    return p.partial + ((static_cast<int64_t>(block) * GridX() + BlockX()) * p.rows + row) * width +
           c;
  };
  ForOutputs(
      p, [&](int row, int c) { return sums.SumOf(row, c); },
      [&](int row, int c, float sum) { Store(place(BlockY(), row, c), sum); });
  ThreadFence();  // this thread's sums are seen before the block is counted
  SyncThreads();  // ... and so are those of all its threads
  if (ThreadIndex() == 0) {
    const bool last = AtomicAdd(p.counters + BlockX(), 1) == p.shape.blocks_k - 1;
    if (last) {
      ThreadFence();  // all blocks were counted before their sums are read
      Store(p.counters + BlockX(), 0);
    }
    sums.is_last[0] = last ? 1 : 0;
  }
  SyncThreads();  // thread 0's verdict, and its fence, come before what follows
  if (sums.is_last[0] == 0) return;
  ForOutputs(
      p,
      [&](int row, int c) {
        float sum = 0.0f;
        for (int block = 0; block < p.shape.blocks_k; ++block) sum += Load(place(block, row, c));
        return Load(y + row * p.weight.rows + c) + sum;
      },
      put);
}

template <typename T>
XCOMPOSER_DEVICE void StoreResults(const FewRowsTask& p, const FewRowsSums& sums) {
  const int64_t first = static_cast<int64_t>(BlockX()) * p.shape.warps_n * kFewRowsUnit;
  const int outputs = static_cast<int>(p.weight.rows);
  const auto own = [&](int row, int c) { return sums.SumOf(row, c); };
  switch (p.result) {
    case FewRowsResult::kStored:
      return ForOutputs(p, own, [&](int row, int c, float sum) {
        Store(static_cast<T*>(p.y) + row * p.weight.rows + first + c, FromFloat<T>(sum));
      });
    case FewRowsResult::kFloat:
      return ForOutputs(p, own, [&](int row, int c, float sum) {
        Store(static_cast<float*>(p.y) + row * p.weight.rows + first + c, sum);
      });
    case FewRowsResult::kAdd:
      return AddSums(p, sums);
    case FewRowsResult::kGateUp:
      return ForPairs(
          p, sums, (outputs + 15) / 16,
          [](int, int, int, const FewRowsPair& x) {
            return FewRowsPair{Silu(x.first) * x.second, 0.0f, 0};
          },
          [&](int row, int unit, int i, const FewRowsPair& x) {
            const int output = unit * 16 + i;
            if (output >= outputs) return;
            Store(static_cast<T*>(p.y) + row * p.weight.rows + output, FromFloat<T>(x.first));
          });
    case FewRowsResult::kRotated: {
      const FewRowsRotation<T> rotation(p);
      return ForPairs(
          p, sums, outputs / kFewRowsUnit,
          [&](int row, int unit, int i, const FewRowsPair& x) {
            return rotation.Rotated(row, unit, i, x);
          },
          [&](int row, int unit, int i, const FewRowsPair& x) { rotation.Put(row, unit, i, x); });
    }
  }
}

}  // namespace xcomposer::cuda
