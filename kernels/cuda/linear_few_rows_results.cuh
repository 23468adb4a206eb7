#pragma once

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/linear_few_rows.h"

namespace xcomposer::cuda {

// What becomes of the sums of a product of few rows (linear_few_rows.cuh).

// A warp takes a unit: kLeft, one or two, tensor-core tiles of 16 rows of weights. They are two
// runs of half as many: neighbours, gates and their ups, or the two halves of a rotation.
constexpr int kFewRowsTile = 16;

enum class FewRowsResult { kStored, kFloat, kAdd, kGateUp, kRotated };

/// What a kernel does, whichever product it is.
struct FewRowsTask {
  const void* x = nullptr;
  WeightMatrix weight;
  WeightMatrix second;  ///< kGateUp: w3
  int rows = 0;
  FewRowsShape shape;
  int open = 0;  ///< stages that are still to come when the next kernel is let in
  FewRowsResult result = FewRowsResult::kStored;
  void* y = nullptr;
  HeadShape heads;  ///< this and what follows: kRotated, where y is q
  const float* cos = nullptr;
  const float* sin = nullptr;
  const int64_t* slots = nullptr;
  void* k_cache = nullptr;
  void* v_cache = nullptr;
};

/// The sums of all warps in shared memory, where the ring was: (warps, tiles of the unit, rows of
/// x, 16 rows of weights), rows of x 20 numbers apart, so that fragments meet no bank twice.
template <int kLeft>
struct FewRowsSums {
  static constexpr int kStride = 20;
  static constexpr int kPairs = 8 * kLeft;  // of a unit: row i of the first run and of the second

  Shared<float> parts;
  FewRowsShape shape;
  int inputs;  // rows of x, filled up to whole tiles

  XCOMPOSER_DEVICE int Place(int warp, int tile, int row, int i) const {
    return ((warp * kLeft + tile) * inputs + row) * kStride + i;
  }
  /// What the warp `k` along K has, of row `i` of unit `n` of the block.
  XCOMPOSER_DEVICE float Part(int k, int n, int row, int i) const {
    return parts[Place(k * shape.warps_n + n, i / 16, row, i % 16)];
  }
};

template <int kLeft, int kTiles>
XCOMPOSER_DEVICE FewRowsSums<kLeft> ShareSums(const FewRowsTask& p,
                                              const float (&sums)[kLeft][kTiles][4]) {
  using Sums = FewRowsSums<kLeft>;
  SyncThreads();  // all warps have read the last stage before sums take its place
  SharedArena arena;
  const int warps = p.shape.warps_n * p.shape.warps_k;
  const Sums out{arena.Take<float>(warps * kLeft * kTiles * 8 * Sums::kStride), p.shape,
                 kTiles * 8};
  XCOMPOSER_UNROLL
  for (int m = 0; m < kLeft; ++m) {
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

// What follows loads for several results before it stores them, so that as many loads are under
// way. Warps or parts of them take a row of a unit at a time: neighbouring lanes take neighbouring
// outputs.

/// store(row of x, c, before(row, c) + sum) for all of the block's outputs, numbered c.
template <typename Before, typename StoreOne>
XCOMPOSER_DEVICE void ForOutputs(const FewRowsTask& p, const FewRowsSums<2>& sums,
                                 const Before& before, const StoreOne& store) {
  constexpr int kBatch = 8;
  constexpr int kUnit = 2 * kFewRowsTile;  // a lane for each
  const int warps = BlockThreads() / 32;
  const int units = p.shape.warps_n;
  const int outputs = static_cast<int>(p.weight.rows) - BlockX() * units * kUnit;
  for (int first = Warp(); first < p.rows * units; first += kBatch * warps) {
    int rows[kBatch];
    int unit[kBatch];
    float old[kBatch];
    float sum[kBatch];
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      rows[b] = (first + b * warps) / units;
      unit[b] = (first + b * warps) % units;
      const int c = unit[b] * kUnit + Lane();
      if (c >= outputs) rows[b] = p.rows;
      old[b] = rows[b] < p.rows ? before(rows[b], c) : 0.0f;
      sum[b] = 0.0f;
    }
    for (int k = 0; k < p.shape.warps_k; ++k) {
      XCOMPOSER_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        if (rows[b] < p.rows) sum[b] += sums.Part(k, unit[b], rows[b], Lane());
      }
    }
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int c = unit[b] * kUnit + Lane();
      if (rows[b] < p.rows) store(rows[b], c, old[b] + sum[b]);
    }
  }
}

struct FewRowsPair {
  float first = 0.0f;
  float second = 0.0f;
  int64_t slot = 0;  // kRotated
};

/// value(row of x, unit, row of its runs, the sums) for several pairs, then store(..., value).
template <int kLeft, typename ValueOf, typename StoreOne>
XCOMPOSER_DEVICE void ForPairs(const FewRowsTask& p, const FewRowsSums<kLeft>& sums, int all_units,
                               const ValueOf& value, const StoreOne& store) {
  constexpr int kBatch = 4;
  constexpr int kPairs = FewRowsSums<kLeft>::kPairs;
  const int groups = BlockThreads() / kPairs;
  const int first_unit = BlockX() * p.shape.warps_n;
  const int units = Min(p.shape.warps_n, all_units - first_unit);
  const int i = Lane() % kPairs;
  for (int first = ThreadIndex() / kPairs; first < p.rows * units; first += kBatch * groups) {
    int rows[kBatch];
    int unit[kBatch];
    FewRowsPair values[kBatch];
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      rows[b] = (first + b * groups) / units;
      unit[b] = (first + b * groups) % units;
      values[b] = FewRowsPair{};
    }
    for (int k = 0; k < p.shape.warps_k; ++k) {
      XCOMPOSER_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        if (rows[b] >= p.rows) continue;
        values[b].first += sums.Part(k, unit[b], rows[b], i);
        values[b].second += sums.Part(k, unit[b], rows[b], kPairs + i);
      }
    }
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      if (rows[b] < p.rows) values[b] = value(rows[b], first_unit + unit[b], i, values[b]);
    }
    XCOMPOSER_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      if (rows[b] < p.rows) store(rows[b], first_unit + unit[b], i, values[b]);
    }
  }
}

/// Where results j and j + head_dim / 2 of queries, keys and values come and go.
template <typename T, int kPairs>
struct FewRowsRotation {
  const FewRowsTask& p;
  int half;
  int group;

  XCOMPOSER_DEVICE explicit FewRowsRotation(const FewRowsTask& task)
      : p(task),
        half(static_cast<int>(task.heads.head_dim) / 2),
        group(static_cast<int>(task.heads.heads / task.heads.kv_heads)) {}

  /// < group: a query, then the key, the value.
  XCOMPOSER_DEVICE int Place(int unit) const { return unit / (half / kPairs) % (group + 2); }
  XCOMPOSER_DEVICE int KvHead(int unit) const { return unit / (half / kPairs) / (group + 2); }
  XCOMPOSER_DEVICE int Number(int unit, int i) const { return unit % (half / kPairs) * kPairs + i; }

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

template <typename T, int kLeft>
XCOMPOSER_DEVICE void StoreRotated(const FewRowsTask& p, const FewRowsSums<kLeft>& sums) {
  const FewRowsRotation<T, FewRowsSums<kLeft>::kPairs> rotation(p);
  ForPairs(
      p, sums, static_cast<int>(p.weight.rows) / (kFewRowsTile * kLeft),
      [&](int row, int unit, int i, const FewRowsPair& x) {
        return rotation.Rotated(row, unit, i, x);
      },
      [&](int row, int unit, int i, const FewRowsPair& x) { rotation.Put(row, unit, i, x); });
}

template <typename T>
XCOMPOSER_DEVICE void StoreResults(const FewRowsTask& p, const FewRowsSums<1>& sums) {
  StoreRotated<T>(p, sums);
}

template <typename T>
XCOMPOSER_DEVICE void StoreResults(const FewRowsTask& p, const FewRowsSums<2>& sums) {
  const int64_t first = static_cast<int64_t>(BlockX()) * p.shape.warps_n * 2 * kFewRowsTile;
  const int outputs = static_cast<int>(p.weight.rows);
  const auto nothing = [](int, int) { return 0.0f; };
  float* wide = static_cast<float*>(p.y) + first;
  T* narrow = static_cast<T*>(p.y) + first;
  const auto store = [&](int row, int c, float y) { Store(wide + row * p.weight.rows + c, y); };
  switch (p.result) {
    case FewRowsResult::kStored:
      return ForOutputs(p, sums, nothing, [&](int row, int c, float y) {
        Store(narrow + row * p.weight.rows + c, FromFloat<T>(y));
      });
    case FewRowsResult::kFloat:
      return ForOutputs(p, sums, nothing, store);
    case FewRowsResult::kAdd:
      return ForOutputs(
          p, sums, [&](int row, int c) { return Load(wide + row * p.weight.rows + c); }, store);
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
    case FewRowsResult::kRotated:
      return StoreRotated<T>(p, sums);
  }
}

}  // namespace xcomposer::cuda
