#pragma once

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/linear_few_rows.h"

namespace xcomposer::cuda {

// y^T = weight x^T on tensor cores: 16 rows of the weight are the left factor's rows, 8 rows of x
// the right factor's columns, so that few rows of x waste little. A warp takes two such tiles of
// the weight - neighbours, a gate and its up, or the two halves of a rotation - over its share of
// K; a block's warps lie side by side along N, where they share x, and along K, where they add up
// their parts in a fixed order at the end.
//
// Memory is what limits this. Weights and x come by asynchronous copies, 128 bytes of a row at a
// time, through a ring of stages in shared memory: all stages but one are under way while one is
// multiplied. The ring's weights are asked for before the kernel before has ended, and those behind
// them are brought into L2: they arrive while the norm or the attention in front is computed. A
// block takes half of a multiprocessor's shared memory and registers at most, so that the next
// product's blocks find room beside it; they are let in when the block's last bytes are under way,
// since what they bring into L2 would not stay there for longer.

constexpr int kFewRowsStep = 64;  // numbers of K that a warp takes at a time
constexpr int kFewRowsUnit = 32;  // rows of weights that a warp takes: two tiles of 16
constexpr int kFewRowsMostStages = 8;
constexpr int kFewRowsMostWarps = 12;

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

/// Place of 16 bytes among rows of 128: permuted by the row's low bits, so that neither copies nor
/// ldmatrix meet a bank twice.
XCOMPOSER_DEVICE int PlaceInRows(int row, int part) {
  return row * kFewRowsStep + (part ^ (row & 7)) * 8;
}

/// Bytes of a stage, as numbers: the weights of all warps, then x for each share of K.
XCOMPOSER_DEVICE int FewRowsStageNumbers(const FewRowsShape& shape, int tiles) {
  return shape.warps_k * (shape.warps_n * kFewRowsUnit + tiles * 8) * kFewRowsStep;
}

/// The main loop's view of one thread.
template <typename T, int kTiles>
struct FewRowsLoop {
  Shared<T> ring;
  int stage_numbers;
  int columns;
  int k;           // this lane's first column of stage 0
  int k_stride;    // columns of a stage
  int count;       // stages of this block
  int weights_at;  // this warp's weights within a stage
  int x_at;        // x of this warp's share of K within a stage
  int warp_n;
  int warps_n;
  const T* tile[2];  // this lane's place in the first quarter of each tile's rows
  int64_t stride[2];
  int left[2];     // rows from there to the end of the weight
  const T* x;      // this lane's place in the first rows of x that it copies
  int64_t x_step;  // from there to the next ones
  int rows;

  XCOMPOSER_DEVICE FewRowsLoop(const FewRowsTask& p, const Shared<T>& shared)
      : ring(shared),
        stage_numbers(FewRowsStageNumbers(p.shape, kTiles)),
        columns(static_cast<int>(p.weight.columns)),
        warp_n(Warp() % p.shape.warps_n),
        warps_n(p.shape.warps_n),
        x_step(int64_t{4} * warps_n * columns),
        rows(p.rows) {
    const int warp_k = Warp() / warps_n;
    k_stride = p.shape.warps_k * kFewRowsStep;
    const int all = (columns + k_stride - 1) / k_stride;
    const int share = (all + p.shape.blocks_k - 1) / p.shape.blocks_k;
    count = Min(share, all - BlockY() * share);
    k = BlockY() * share * k_stride + warp_k * kFewRowsStep + Lane() % 8 * 8;
    weights_at = Warp() * kFewRowsUnit * kFewRowsStep;
    x_at = (p.shape.warps_k * warps_n * kFewRowsUnit + warp_k * kTiles * 8) * kFewRowsStep;
    x = static_cast<const T*>(p.x) + static_cast<int64_t>(4 * warp_n + Lane() / 8) * columns + k;
    const int unit = BlockX() * warps_n + warp_n;
    int first[2] = {unit * kFewRowsUnit, unit * kFewRowsUnit + 16};
    if (p.result == FewRowsResult::kGateUp) first[0] = first[1] = unit * 16;
    if (p.result == FewRowsResult::kRotated) {
      const int half = static_cast<int>(p.heads.head_dim) / 2;
      first[0] = unit / (half / 16) * 2 * half + unit % (half / 16) * 16;
      first[1] = first[0] + half;
    }
    XCOMPOSER_UNROLL
    for (int m = 0; m < 2; ++m) {
      const bool other = m == 1 && p.result == FewRowsResult::kGateUp;
      const int row = first[m] + Lane() / 8;
      stride[m] = other ? p.second.row_stride : p.weight.row_stride;
      left[m] = static_cast<int>(p.weight.rows) - row;
      tile[m] = static_cast<const T*>(other ? p.second.data : p.weight.data) + row * stride[m] + k;
    }
  }

  XCOMPOSER_DEVICE void CopyWeights(int stage, int slot) const {
    const int at = slot * stage_numbers + weights_at;
    const bool inside = k + stage * k_stride < columns;
    XCOMPOSER_UNROLL
    for (int m = 0; m < 2; ++m) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 16; i += 4) {
        CopyAsync16(ring, at + PlaceInRows(16 * m + i + Lane() / 8, Lane() % 8),
                    tile[m] + stage * k_stride + i * stride[m], inside && i < left[m]);
      }
    }
  }

  /// Warps side by side along N share out the rows of x, four at a time.
  XCOMPOSER_DEVICE void CopyInputs(int stage, int slot) const {
    const int at = slot * stage_numbers + x_at;
    const bool inside = k + stage * k_stride < columns;
    const T* from = x + stage * k_stride;
    XCOMPOSER_UNROLL
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int row = 4 * (warp_n + i * warps_n) + Lane() / 8;
      if (row >= 8 * kTiles) break;
      CopyAsync16(ring, at + PlaceInRows(row, Lane() % 8), from, inside && row < rows);
      from += x_step;
    }
  }

  /// Asks for the weights of `more` stages from `first` on. Warps that share out K share out the
  /// unit's rows here, since a row's parts for all of them lie side by side.
  XCOMPOSER_DEVICE void Prefetch(int first, int more) const {
    const int warp_k = Warp() / warps_n;
    const int row = warp_k + Lane() * (k_stride / kFewRowsStep);
    const int own = warp_k * kFewRowsStep + Lane() % 8 * 8;  // of k
    const int numbers =
        Min(Min(more, count - first) * k_stride, columns - (k - own) - first * k_stride);
    const bool upper = row >= 16;            // no index: it would put these arrays into memory
    const int down = row % 16 - Lane() / 8;  // from where `tile` points
    if (row >= kFewRowsUnit || numbers <= 0 || down >= (upper ? left[1] : left[0])) return;
    PrefetchToL2((upper ? tile[1] : tile[0]) + down * (upper ? stride[1] : stride[0]) +
                     first * k_stride - own,
                 2 * numbers);
  }

  XCOMPOSER_DEVICE void Multiply(int slot, float (&sums)[2][kTiles][4]) const {
    const int at = slot * stage_numbers;
    XCOMPOSER_UNROLL
    for (int part = 0; part < 8; part += 4) {
      uint32_t right[kTiles][4];
      XCOMPOSER_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        LoadMatrices(right[n], ring,
                     at + x_at + PlaceInRows(8 * n + Lane() % 8, part + Lane() / 8));
      }
      XCOMPOSER_UNROLL
      for (int s = 0; s < 2; ++s) {
        uint32_t left_factor[2][4];
        XCOMPOSER_UNROLL
        for (int m = 0; m < 2; ++m) {
          LoadMatrices(
              left_factor[m], ring,
              at + weights_at + PlaceInRows(16 * m + Lane() % 16, part + 2 * s + Lane() / 16));
        }
        XCOMPOSER_UNROLL
        for (int n = 0; n < kTiles; ++n) {
          XCOMPOSER_UNROLL
          for (int m = 0; m < 2; ++m) {
            MultiplyAdd<T>(sums[m][n], left_factor[m], right[n][2 * s], right[n][2 * s + 1]);
          }
        }
      }
    }
  }
};

/// Waits until at most `pending` groups of copies are under way.
XCOMPOSER_DEVICE void WaitForStage(int pending) {
  switch (pending) {
    case 0:
      return WaitCopies<0>();
    case 1:
      return WaitCopies<1>();
    case 2:
      return WaitCopies<2>();
    case 3:
      return WaitCopies<3>();
    case 4:
      return WaitCopies<4>();
    case 5:
      return WaitCopies<5>();
    default:
      return WaitCopies<6>();
  }
}

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
  XCOMPOSER_DEVICE float SumOf(int c, int row) const {
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

/// Calls load(row of x, output) and then store(row, output, what was loaded, sum(c, row)) for all
/// of the block's outputs; c numbers them within the block, neighbouring lanes take neighbours.
/// Four loads at a time are under way.
template <typename SumOf, typename LoadOne, typename StoreOne>
XCOMPOSER_DEVICE void ForOutputs(const FewRowsTask& p, const SumOf& sum, const LoadOne& load,
                                 const StoreOne& store) {
  const int warps = BlockThreads() / 32;
  for (int c = Lane(); c < p.shape.warps_n * kFewRowsUnit; c += 32) {
    const int64_t output = static_cast<int64_t>(BlockX()) * p.shape.warps_n * kFewRowsUnit + c;
    if (output >= p.weight.rows) continue;
    for (int first = Warp(); first < p.rows; first += 4 * warps) {
      float loaded[4] = {};
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = first + i * warps;
        if (row < p.rows) loaded[i] = load(row, output);
      }
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = first + i * warps;
        if (row < p.rows) store(row, output, loaded[i], sum(c, row));
      }
    }
  }
}

/// Calls store(row of x, unit, row of the tiles, first, second) for all pairs of the block's
/// results.
template <typename StorePair>
XCOMPOSER_DEVICE void ForPairs(const FewRowsTask& p, const FewRowsSums& sums, int units,
                               const StorePair& store) {
  const int warps = BlockThreads() / 32;
  for (int c = Lane(); c < p.shape.warps_n * 16; c += 32) {
    const int unit = BlockX() * p.shape.warps_n + c / 16;
    if (unit >= units) continue;
    for (int row = Warp(); row < p.rows; row += warps) {
      store(row, unit, c % 16, sums.Sum(c / 16, 0, row, c % 16), sums.Sum(c / 16, 1, row, c % 16));
    }
  }
}

/// Results j and j + head_dim / 2 of a query, key or value head.
template <typename T>
XCOMPOSER_DEVICE void StoreRotated(const FewRowsTask& p, int row, int head, int j, float low,
                                   float high) {
  const int dim = static_cast<int>(p.heads.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.heads.heads / p.heads.kv_heads);
  const int kv = head / (group + 2);
  const int place = head % (group + 2);  // < group: a query, then the key, the value
  if (place <= group) {
    const float cos = Load(p.cos + row * half + j);
    const float sin = Load(p.sin + row * half + j);
    const float x = low;
    low = x * cos - high * sin;
    high = high * cos + x * sin;
  }
  T* out = static_cast<T*>(p.y) + (row * p.heads.heads + kv * group + place) * dim;
  if (place >= group) {
    const int64_t slot = Load(p.slots + row);
    if (slot < 0) return;
    void* cache = place == group ? p.k_cache : p.v_cache;
    out = static_cast<T*>(cache) + (slot * p.heads.kv_heads + kv) * dim;
  }
  Store(out + j, FromFloat<T>(low));
  Store(out + j + half, FromFloat<T>(high));
}

/// y += the block's sums; where blocks share out K, those of all of them, in their order, by the
/// one that comes last.
XCOMPOSER_DEVICE void AddSums(const FewRowsTask& p, const FewRowsSums& sums) {
  float* y = static_cast<float*>(p.y);
  const auto before = [&](int row, int64_t output) {
    return Load(y + row * p.weight.rows + output);
  };
  const auto add = [&](int row, int64_t output, float old, float sum) {
    Store(y + row * p.weight.rows + output, old + sum);
  };
  const auto own = [&](int c, int row) { return sums.SumOf(c, row); };
  if (p.shape.blocks_k == 1) return ForOutputs(p, own, before, add);

  const int width = p.shape.warps_n * kFewRowsUnit;
  const auto place = [&](int block, int c, int row) {
    return p.partial + ((static_cast<int64_t>(block) * GridX() + BlockX()) * p.rows + row) * width +
           c;
  };
  ForOutputs(
      p, own, [](int, int64_t) { return 0.0f; },
      [&](int row, int64_t output, float, float sum) {
        Store(place(BlockY(), static_cast<int>(output) - BlockX() * width, row), sum);
      });
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
      [&](int c, int row) {
        float sum = 0.0f;
        for (int block = 0; block < p.shape.blocks_k; ++block) sum += Load(place(block, c, row));
        return sum;
      },
      before, add);
}

template <typename T>
XCOMPOSER_DEVICE void StoreResults(const FewRowsTask& p, const FewRowsSums& sums) {
  const int outputs = static_cast<int>(p.weight.rows);
  const auto own = [&](int c, int row) { return sums.SumOf(c, row); };
  const auto nothing = [](int, int64_t) { return 0.0f; };
  const auto at = [&](int row, int64_t output) { return row * p.weight.rows + output; };
  switch (p.result) {
    case FewRowsResult::kStored:
      return ForOutputs(p, own, nothing, [&](int row, int64_t output, float, float sum) {
        Store(static_cast<T*>(p.y) + at(row, output), FromFloat<T>(sum));
      });
    case FewRowsResult::kFloat:
      return ForOutputs(p, own, nothing, [&](int row, int64_t output, float, float sum) {
        Store(static_cast<float*>(p.y) + at(row, output), sum);
      });
    case FewRowsResult::kAdd:
      return AddSums(p, sums);
    case FewRowsResult::kGateUp:
      return ForPairs(
          p, sums, (outputs + 15) / 16, [&](int row, int unit, int i, float gate, float up) {
            const int output = unit * 16 + i;
            if (output >= outputs) return;
            Store(static_cast<T*>(p.y) + at(row, output), FromFloat<T>(Silu(gate) * up));
          });
    case FewRowsResult::kRotated:
      return ForPairs(p, sums, outputs / 32, [&](int row, int unit, int i, float low, float high) {
        const int parts = static_cast<int>(p.heads.head_dim) / 32;
        StoreRotated<T>(p, row, unit / parts, unit % parts * 16 + i, low, high);
      });
  }
}

template <typename T, int kTiles>
__global__ void __launch_bounds__(32 * kFewRowsMostWarps, 1) FewRowsKernel(FewRowsTask p) {
  SharedArena arena;
  const int stages = p.shape.stages;
  const FewRowsLoop<T, kTiles> loop(p,
                                    arena.Take<T>(stages * FewRowsStageNumbers(p.shape, kTiles)));
  const int count = loop.count;
  for (int s = 0; s < stages - 1 && s < count; ++s) loop.CopyWeights(s, s);
  loop.Prefetch(stages - 1, p.shape.ahead);
  GridDependencyWait();
  for (int s = 0; s < stages - 1; ++s) {
    if (s < count) loop.CopyInputs(s, s);
    CommitCopies();
  }
  float sums[2][kTiles][4] = {};
  const int open = count > p.shape.open ? count - p.shape.open : 0;
  int slot = 0;
  for (int s = 0; s < count; ++s) {
    if (s == open) GridDependencyLaunch();
    WaitForStage(stages - 2);
    SyncThreads();  // all copies of this stage are there, and the stage before has been read
    const int next = s + stages - 1;
    if (next < count) {
      const int free = slot == 0 ? stages - 1 : slot - 1;
      loop.CopyWeights(next, free);
      loop.CopyInputs(next, free);
    }
    CommitCopies();
    loop.Multiply(slot, sums);
    slot = slot + 1 == stages ? 0 : slot + 1;
  }
  StoreResults<T>(p, ShareSums(p, sums));
}

}  // namespace xcomposer::cuda
