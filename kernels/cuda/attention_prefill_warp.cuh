#pragma once

#include "kernels/cuda/attention_prefill_tile.cuh"

namespace xcomposer::cuda {

/// One warp's 16 or 32 rows of a tile: running softmax and mixed values, in registers. A row tile
/// is 16 rows, of which a lane holds Lane() / 4 and 8 more. Two row tiles share what comes from
/// shared memory of keys and values, whose reads would otherwise cost more than the products.
/// Queries find no room in registers: they are read again for every tile of keys.
template <typename T, int kDim, int kRowTiles>
class PrefillWarp {
 public:
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr int kKeyTiles = kPrefillKeys / 8;
  using Scores = float[kRowTiles][kKeyTiles][4];

  /// `first_row`: of the warp in the tile.
  XCOMPOSER_DEVICE PrefillWarp(const Shared<T>& queries, int first_row)
      : queries_(queries), first_row_(first_row) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      XCOMPOSER_UNROLL
      for (int r = 0; r < 2; ++r) {
        reference_[t][r] = FloatOf(0xFF800000);
        sum_[t][r] = 0.0f;
      }
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDimTiles; ++n) {
        XCOMPOSER_UNROLL
        for (int i = 0; i < 4; ++i) mixed_[t][n][i] = 0.0f;
      }
    }
  }

  /// Products with the first `count` keys of a tile, all 64 if kWhole, rounded up to 16; others
  /// count as minus infinity.
  template <bool kWhole>
  XCOMPOSER_DEVICE void Score(const Shared<T>& keys, int count, Scores& scores) const {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      XCOMPOSER_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        const float start = kWhole || n / 2 * 16 < count ? 0.0f : FloatOf(0xFF800000);
        XCOMPOSER_UNROLL
        for (int i = 0; i < 4; ++i) scores[t][n][i] = start;
      }
    }
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      uint32_t a[kRowTiles][4];
      LoadQueries(s, a);
      XCOMPOSER_UNROLL
      for (int n = 0; n < kKeyTiles; n += 2) {
        if (!kWhole && n * 8 >= count) continue;
        uint32_t b[4];
        // Two tiles of 8 keys, each with its two halves of 16 numbers in neighbouring registers.
        LoadMatrices(b, keys,
                     Square(s, Lane() / 16 * 8 + Lane() % 8, Lane() / 8 % 2) + n * 8 * kDim);
        XCOMPOSER_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
          MultiplyAdd<T>(scores[t][n], a[t], b[0], b[1]);
          MultiplyAdd<T>(scores[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }

  /// Takes out what a row must not see: `end(r)` is the first key of this tile that row r of the
  /// block's tile does not see.
  template <typename End>
  XCOMPOSER_DEVICE void Mask(Scores& scores, const End& end) const {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      XCOMPOSER_UNROLL
      for (int r = 0; r < 2; ++r) {
        const int unseen = end(first_row_ + 16 * t + 8 * r + Lane() / 4) - Lane() % 4 * 2;
        XCOMPOSER_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          if (n * 8 >= unseen) scores[t][n][2 * r] = FloatOf(0xFF800000);
          if (n * 8 + 1 >= unseen) scores[t][n][2 * r + 1] = FloatOf(0xFF800000);
        }
      }
    }
  }

  /// Scores become weights: powers of two of their distance to a reference, near the largest score
  /// that the row has seen. Only when that grows by more than kSlack is the reference moved and
  /// what was mixed before scaled; the result does not depend on it, and 2^kSlack is far from the
  /// largest number that T holds.
  XCOMPOSER_DEVICE void Weigh(Scores& scores) {
    constexpr float kSlack = 8.0f;
    const float scale = 1.44269504f / sqrtf(static_cast<float>(kDim));
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      XCOMPOSER_UNROLL
      for (int r = 0; r < 2; ++r) {
        float highest = scores[t][0][2 * r];
        XCOMPOSER_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          highest = fmaxf(highest, fmaxf(scores[t][n][2 * r], scores[t][n][2 * r + 1]));
        }
        // Four lanes share a row.
        highest = fmaxf(highest, ShuffleXor(highest, 1));
        highest = fmaxf(highest, ShuffleXor(highest, 2)) * scale;
        if (highest > reference_[t][r] + kSlack) MoveReference(t, r, highest);
        const float reference = reference_[t][r];
        XCOMPOSER_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          XCOMPOSER_UNROLL
          for (int i = 2 * r; i < 2 * r + 2; ++i) {
            scores[t][n][i] = Exp2(scores[t][n][i] * scale - reference);
            sum_[t][r] += scores[t][n][i];
          }
        }
      }
    }
  }

  /// Adds up the values of a tile's first `count` keys, rounded up to 16, all 64 if kWhole.
  template <bool kWhole>
  XCOMPOSER_DEVICE void Mix(const Scores& weights, const Shared<T>& values, int count) {
    XCOMPOSER_UNROLL
    for (int s = 0; s < kPrefillKeys / 16; ++s) {
      if (!kWhole && s * 16 >= count) continue;
      uint32_t a[kRowTiles][4];
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRowTiles; ++t) {
        // Two score tiles are the left factor's 16 columns, lane for lane.
        XCOMPOSER_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = weights[t][2 * s + i / 2];
          a[t][i] = Pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDimTiles; n += 2) {
        // 16 keys by two tiles of 8 numbers: keys are the sum's direction, hence transposed.
        uint32_t b[4];
        LoadMatricesTransposed(b, values, Square(n / 2, Lane() % 16, Lane() / 16) + s * 16 * kDim);
        XCOMPOSER_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
          MultiplyAdd<T>(mixed_[t][n], a[t], b[0], b[1]);
          MultiplyAdd<T>(mixed_[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }

  /// Results of the warp's rows, to the places that its queries had.
  XCOMPOSER_DEVICE void Finish() {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      XCOMPOSER_UNROLL
      for (int r = 0; r < 2; ++r) {
        float sum = sum_[t][r];
        sum += ShuffleXor(sum, 1);
        sum += ShuffleXor(sum, 2);
        const float factor = 1.0f / sum;
        const int row = first_row_ + 16 * t + 8 * r + Lane() / 4;
        XCOMPOSER_UNROLL
        for (int n = 0; n < kDimTiles; ++n) {
          const int at = TileIndex<kDim>(row, n) + Lane() % 4 * 2;
          queries_[at] = FromFloat<T>(mixed_[t][n][2 * r] * factor);
          queries_[at + 1] = FromFloat<T>(mixed_[t][n][2 * r + 1] * factor);
        }
      }
    }
  }

 private:
  static constexpr int kSteps = kDim / 16;  // of 16 numbers along a head
  static constexpr int kDimTiles = kDim / 8;

  /// Part `part`, 0 or 1, of row `row` in the s-th square of 16 numbers: parts up to 7 are an
  /// exclusive or away, which takes a register each, the others that and a constant.
  XCOMPOSER_DEVICE static int Square(int s, int row, int part) {
    return (TileIndex<kDim>(row, part) ^ s % 4 * 16) + s / 4 * 64;
  }
  /// Upper left, lower left, upper right, lower right 8x8 of 16 rows by 16 numbers.
  XCOMPOSER_DEVICE void LoadQueries(int s, uint32_t (&a)[kRowTiles][4]) const {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      LoadMatrices(a[t], queries_,
                   Square(s, Lane() % 16, Lane() / 16) + (first_row_ + t * 16) * kDim);
    }
  }
  XCOMPOSER_DEVICE void MoveReference(int t, int r, float to) {
    const float factor = Exp2(reference_[t][r] - to);
    reference_[t][r] = to;
    sum_[t][r] *= factor;
    XCOMPOSER_UNROLL
    for (int n = 0; n < kDimTiles; ++n) {
      mixed_[t][n][2 * r] *= factor;
      mixed_[t][n][2 * r + 1] *= factor;
    }
  }

  Shared<T> queries_;
  int first_row_;
  float reference_[kRowTiles][2];
  float sum_[kRowTiles][2];
  float mixed_[kRowTiles][kDimTiles][4];
};

}  // namespace xcomposer::cuda
