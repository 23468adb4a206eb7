#pragma once

#include "kernels/cuda/attention_warpgroup_keys.cuh"

namespace xcomposer::cuda {

/// A warpgroup's 64 rows of a tile: running softmax and mixed values, in registers. A lane holds
/// rows Lane() / 4 and 8 more of its warp's 16. Products are begun here and waited for by the
/// caller.
template <typename T, int kDim>
class WarpgroupRows {
 public:
  static constexpr int kRows = 64;
  using Scores = float[kWarpgroupKeys / 2];

  XCOMPOSER_DEVICE WarpgroupRows() {
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      reference_[r] = FloatOf(0xFF800000);
      sum_[r] = 0.0f;
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < kDim / 2; ++i) mixed_[i] = 0.0f;
  }

  /// scores = rows of q by a tile's keys. Descriptors of both.
  XCOMPOSER_DEVICE static void BeginScores(uint64_t queries, uint64_t keys, Scores& scores) {
    WarpgroupMultiply<T, false>(scores, queries, keys);
    XCOMPOSER_UNROLL
    for (int s = 1; s < kDim / 16; ++s) {
      WarpgroupMultiply<T, true>(scores, queries + ColumnStep<kRows>(s),
                                 keys + ColumnStep<kWarpgroupKeys>(s));
    }
  }

  /// Mixes in the values of the tile whose weights were packed last.
  XCOMPOSER_DEVICE void BeginMix(uint64_t values) {
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      WarpgroupMultiplyRows<T>(mixed_, weights_[s], values + RowStep(s));
    }
  }
  template <int kPending>
  XCOMPOSER_DEVICE void WaitMix() {
    WaitProducts<kPending>(mixed_);
  }

  /// Takes out what a row must not see: `end(r)` is the first key of this tile that row r of the
  /// warpgroup's does not see.
  template <typename End>
  XCOMPOSER_DEVICE static void Mask(Scores& scores, const End& end) {
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int unseen = end(Row(r)) - Lane() % 4 * 2;
      XCOMPOSER_UNROLL
      for (int n = 0; n < kWarpgroupKeys / 8; ++n) {
        if (n * 8 >= unseen) scores[4 * n + 2 * r] = FloatOf(0xFF800000);
        if (n * 8 + 1 >= unseen) scores[4 * n + 2 * r + 1] = FloatOf(0xFF800000);
      }
    }
  }

  /// Scores become weights: powers of two of their distance to a reference, near the largest score
  /// that the row has seen, as in PrefillWarp. What was mixed before, which products may still be
  /// adding to, is scaled by Pack.
  XCOMPOSER_DEVICE void Weigh(Scores& scores) {
    constexpr float kSlack = 8.0f;
    const float scale = 1.44269504f / sqrtf(static_cast<float>(kDim));
    moved_ = false;
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      // Two at a time, which need not wait for each other.
      float highest = scores[2 * r];
      float other = scores[2 * r + 1];
      XCOMPOSER_UNROLL
      for (int n = 1; n < kWarpgroupKeys / 8; ++n) {
        highest = fmaxf(highest, scores[4 * n + 2 * r]);
        other = fmaxf(other, scores[4 * n + 2 * r + 1]);
      }
      highest = fmaxf(highest, other);
      // Four lanes share a row.
      highest = fmaxf(highest, ShuffleXor(highest, 1));
      highest = fmaxf(highest, ShuffleXor(highest, 2)) * scale;
      factor_[r] = 1.0f;
      if (highest > reference_[r] + kSlack) {
        factor_[r] = Exp2(reference_[r] - highest);
        reference_[r] = highest;
        sum_[r] *= factor_[r];
        moved_ = true;
      }
      const float reference = reference_[r];
      XCOMPOSER_UNROLL
      for (int n = 0; n < kWarpgroupKeys / 8; ++n) {
        XCOMPOSER_UNROLL
        for (int i = 4 * n + 2 * r; i < 4 * n + 2 * r + 2; ++i) {
          scores[i] = Exp2(scores[i] * scale - reference);
          sum_[r] += scores[i];
        }
      }
    }
    HoldWaits(sum_[0] + sum_[1]);
  }

  /// Weights become the next mix's factor, and what was mixed before follows their reference. The
  /// mix before has ended.
  XCOMPOSER_DEVICE void Pack(const Scores& weights) {
    if (moved_) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < kDim / 2; ++i) mixed_[i] *= factor_[i / 2 % 2];
    }
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      // 16 columns of scores are the left factor's, lane for lane.
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) {
        weights_[s][i] = Pack2(weights[8 * s + 2 * i], weights[8 * s + 2 * i + 1]);
      }
    }
  }

  /// Results of the warp's rows, to the places that the queries had.
  XCOMPOSER_DEVICE void Finish(const Shared<T>& queries) {
    const int lane = Anew(Lane());
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      float sum = sum_[r];
      sum += ShuffleXor(sum, 1);
      sum += ShuffleXor(sum, 2);
      const float factor = 1.0f / sum;
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDim / 8; ++n) {
        const int row = Warp() % 4 * 16 + lane / 4 + 8 * r;
        const int at = PanelIndex<kRows>(row, n) + lane % 4 * 2;
        queries[at] = FromFloat<T>(mixed_[4 * n + 2 * r] * factor);
        queries[at + 1] = FromFloat<T>(mixed_[4 * n + 2 * r + 1] * factor);
      }
    }
  }

 private:
  static constexpr int kSteps = kWarpgroupKeys / 16;

  /// Of the warpgroup, the lane's first or second.
  XCOMPOSER_DEVICE static int Row(int r) { return Warp() % 4 * 16 + Lane() / 4 + 8 * r; }
  XCOMPOSER_DEVICE static uint32_t Pack2(float low, float high) {
    return xcomposer::cuda::Pack<T>(low, high);
  }

  float reference_[2];
  float sum_[2];
  float factor_[2];
  bool moved_ = false;
  float mixed_[kDim / 2];
  uint32_t weights_[kSteps][4];
};

}  // namespace xcomposer::cuda
