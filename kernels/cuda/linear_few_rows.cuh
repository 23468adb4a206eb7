#pragma once

#include "kernels/cuda/linear_few_rows_results.cuh"

namespace xcomposer::cuda {

// y^T = weight x^T on tensor cores: 16 rows of the weight are the left factor's rows, 8 rows of x
// the right factor's columns, so that few rows of x waste little. A warp takes one or two such
// tiles of the weight over its share of K; a block's warps lie side by side along N, where they
// share x, and along K, where they add up their parts in a fixed order at the end.
//
// Memory is what limits this. Weights and x come by asynchronous copies, 128 bytes of a row at a
// time, through a ring of stages in shared memory: all stages but one are under way while one is
// multiplied. The ring's weights are asked for before the kernel before has ended; the next kernel
// is let in when the block's last bytes are under way.

constexpr int kFewRowsStep = 64;  // numbers of K that a warp takes at a time
constexpr int kFewRowsMostStages = 8;
constexpr int kFewRowsMostWarps = 16;
// Stages under way before the block has its input: more of them would delay that, and the end of
// the kernel before.
constexpr int kFewRowsEarly = 3;

/// Place of 16 bytes among rows of 128: permuted by the row's low bits, so that neither copies nor
/// ldmatrix meet a bank twice.
XCOMPOSER_DEVICE int PlaceInRows(int row, int part) {
  return row * kFewRowsStep + (part ^ (row & 7)) * 8;
}

/// Bytes of a stage, as numbers: the weights of all warps, then x for each share of K.
XCOMPOSER_DEVICE int FewRowsStageNumbers(const FewRowsShape& shape, int unit, int tiles) {
  return shape.warps_k * (shape.warps_n * unit + tiles * 8) * kFewRowsStep;
}

/// The main loop's view of one thread.
template <typename T, int kLeft, int kTiles>
struct FewRowsLoop {
  static constexpr int kUnit = kFewRowsTile * kLeft;
  static constexpr int kRun = kUnit / 2;

  Shared<T> ring;
  int stage_numbers;
  int columns;
  int k;           // this lane's first column of stage 0
  int k_stride;    // columns of a stage
  int count;       // stages of K
  int weights_at;  // this warp's weights within a stage
  int x_at;        // x of this warp's share of K within a stage
  int warp_n;
  int warps_n;
  const T* run[2];  // this lane's place in the first four rows of each run
  int64_t stride[2];
  int left[2];     // rows from there to the end of the weight
  const T* x;      // this lane's place in the first rows of x that it copies
  int64_t x_step;  // from there to the next ones
  int rows;

  XCOMPOSER_DEVICE FewRowsLoop(const FewRowsTask& p, const Shared<T>& shared)
      : ring(shared),
        stage_numbers(FewRowsStageNumbers(p.shape, kUnit, kTiles)),
        columns(static_cast<int>(p.weight.columns)),
        warp_n(Warp() % p.shape.warps_n),
        warps_n(p.shape.warps_n),
        x_step(int64_t{4} * warps_n * columns),
        rows(p.rows) {
    const int warp_k = Warp() / warps_n;
    k_stride = p.shape.warps_k * kFewRowsStep;
    count = (columns + k_stride - 1) / k_stride;
    k = warp_k * kFewRowsStep + Lane() % 8 * 8;
    weights_at = Warp() * kUnit * kFewRowsStep;
    x_at = (p.shape.warps_k * warps_n * kUnit + warp_k * kTiles * 8) * kFewRowsStep;
    x = static_cast<const T*>(p.x) + static_cast<int64_t>(4 * warp_n + Lane() / 8) * columns + k;
    const int unit = BlockX() * warps_n + warp_n;
    int first[2] = {unit * kUnit, unit * kUnit + kRun};
    if (p.result == FewRowsResult::kGateUp) first[0] = first[1] = unit * kRun;
    if (p.result == FewRowsResult::kRotated) {
      const int half = static_cast<int>(p.heads.head_dim) / 2;
      first[0] = unit / (half / kRun) * 2 * half + unit % (half / kRun) * kRun;
      first[1] = first[0] + half;
    }
    XCOMPOSER_UNROLL
    for (int m = 0; m < 2; ++m) {
      const bool other = m == 1 && p.result == FewRowsResult::kGateUp;
      const int row = first[m] + Lane() / 8;
      stride[m] = other ? p.second.row_stride : p.weight.row_stride;
      left[m] = static_cast<int>(p.weight.rows) - row;
      run[m] = static_cast<const T*>(other ? p.second.data : p.weight.data) + row * stride[m] + k;
    }
  }

  XCOMPOSER_DEVICE void CopyWeights(int stage, int slot) const {
    const int at = slot * stage_numbers + weights_at;
    const bool inside = k + stage * k_stride < columns;
    XCOMPOSER_UNROLL
    for (int m = 0; m < 2; ++m) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < kRun; i += 4) {
        CopyAsync16(ring, at + PlaceInRows(kRun * m + i + Lane() / 8, Lane() % 8),
                    run[m] + stage * k_stride + i * stride[m], inside && i < left[m]);
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

  XCOMPOSER_DEVICE void Multiply(int slot, float (&sums)[kLeft][kTiles][4]) const {
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
        uint32_t left_factor[kLeft][4];
        XCOMPOSER_UNROLL
        for (int m = 0; m < kLeft; ++m) {
          LoadMatrices(
              left_factor[m], ring,
              at + weights_at + PlaceInRows(16 * m + Lane() % 16, part + 2 * s + Lane() / 16));
        }
        XCOMPOSER_UNROLL
        for (int n = 0; n < kTiles; ++n) {
          XCOMPOSER_UNROLL
          for (int m = 0; m < kLeft; ++m) {
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

template <typename T, int kLeft, int kTiles>
__global__ void __launch_bounds__(32 * kFewRowsMostWarps, 1) FewRowsKernel(FewRowsTask p) {
  using Loop = FewRowsLoop<T, kLeft, kTiles>;
  SharedArena arena;
  const int stages = p.shape.stages;
  const Loop loop(p, arena.Take<T>(stages * FewRowsStageNumbers(p.shape, Loop::kUnit, kTiles)));
  const int count = loop.count;
  for (int s = 0; s < stages - 1 && s < count; ++s) {
    if (s >= kFewRowsEarly) WaitForStage(kFewRowsEarly - 1);
    loop.CopyWeights(s, s);
    CommitCopies();  // the inputs' groups come after these: who waits for one has all weights
  }
  GridDependencyWait();
  for (int s = 0; s < stages - 1; ++s) {
    if (s < count) loop.CopyInputs(s, s);
    CommitCopies();
  }
  float sums[kLeft][kTiles][4] = {};
  const int open = count > p.open ? count - p.open : 0;
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
