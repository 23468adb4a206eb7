#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Quantised weights (packed_matrix.h) for many rows of x. A lane is an output, in every packing:
// codes of eight inputs are taken out of their words, the zero is taken away (exact: small
// integers), and what is left is dequantised into a panel of float32 weights. Where S has pairs of
// bfloat16 (bfloat_pairs.h), which hold those integers, it goes there as it is: a piece then lies
// in one group, whose scales its sums are multiplied with.

/// The codes of eight inputs for the outputs of one vector; lanes past `lanes` hold zeros.
template <typename S, Packing packing>
class Codes {
 public:
  /// Inputs k .. k + 7, outputs from n on.
  XCOMPOSER_INLINE void Load(const LinearKernelArgs& args, int64_t k, int64_t n, int64_t lanes) {
    stride_ = args.outputs;
    place_ = static_cast<const uint32_t*>(args.weight) + k / kPerWord * stride_ + n;
    XCOMPOSER_UNROLL
    for (int w = 0; w < kWords; ++w) {
      const uint32_t* place = place_ + w * stride_;
      words_[w] = lanes >= S::kWidth ? S::LoadWords(place) : S::LoadWordsN(place, lanes);
    }
  }
  /// Of input k + i.
  XCOMPOSER_INLINE typename S::F At(int i) const {
    return S::template Field<BitsOf(packing)>(words_[i / kPerWord], i % kPerWord);
  }

 private:
  static constexpr int kPerWord = 32 / BitsOf(packing);
  static constexpr int kWords = 8 / kPerWord;

  typename S::W words_[kWords];
  const uint32_t* place_;
  int64_t stride_;
};

template <typename S>
class Codes<S, Packing::kAwq4> {
 public:
  XCOMPOSER_INLINE void Load(const LinearKernelArgs& args, int64_t k, int64_t n, int64_t lanes) {
    row_words_ = args.outputs / 8;
    row_ = static_cast<const uint32_t*>(args.weight) + k * row_words_;
    n_ = n;
    lanes_ = lanes;
  }
  XCOMPOSER_INLINE typename S::F At(int i) const {
    return S::FromWords(S::template NibbleWords<true>(row_ + i * row_words_, n_, lanes_));
  }

 private:
  const uint32_t* row_;
  int64_t row_words_;
  int64_t n_;
  int64_t lanes_;
};

/// The zeros of group g for the outputs of one vector.
template <typename S, Packing packing>
XCOMPOSER_INLINE typename S::W ZeroWordsOf(const LinearKernelArgs& args, int64_t g, int64_t n,
                                           int64_t lanes) {
  const uint32_t* row = args.zeros + g * (args.outputs * BitsOf(packing) / 32);
  if constexpr (packing == Packing::kAwq4) {
    return S::template NibbleWords<true>(row, n, lanes);
  } else if constexpr (packing == Packing::kGptq4) {
    return S::AddWords(S::template NibbleWords<false>(row, n, lanes), S::SetWords(1));
  } else {
    return S::AddWords(S::ByteWords(reinterpret_cast<const uint8_t*>(row) + n, lanes),
                       S::SetWords(1));
  }
}

/// The same as floats.
template <typename S, Packing packing>
XCOMPOSER_INLINE typename S::F ZerosOf(const LinearKernelArgs& args, int64_t g, int64_t n,
                                       int64_t lanes) {
  return S::FromWords(ZeroWordsOf<S, packing>(args, g, n, lanes));
}

template <typename S>
XCOMPOSER_INLINE typename S::F ScalesOf(const LinearKernelArgs& args, int64_t g, int64_t n,
                                        int64_t lanes) {
  const uint16_t* place = static_cast<const uint16_t*>(args.scales) + g * args.outputs + n;
  return lanes >= S::kWidth ? S::template LoadAs<Format::kFloat16>(place)
                            : S::template LoadAsN<Format::kFloat16>(place, lanes);
}

/// A quantised weight for LinearPanels.
template <typename S, Packing packing>
struct PackedWeight {
  static constexpr bool kScalesSums = S::kMultipliesPairs;
  static constexpr int64_t kInputs = S::kMultipliesPairs ? 2 : 1;  ///< where others have one

  static int64_t End(const LinearKernelArgs& args, int64_t k) {
    const int64_t end = EndOfPiece(args, k);
    const int64_t group_end = (k / args.group + 1) * args.group;
    return kScalesSums && group_end < end ? group_end : end;
  }

  /// Of the group of k.
  static void Scales(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                     float* out) {
    for (; columns > 0; columns -= S::kWidth) {
      S::Store(out,
               ScalesOf<S>(args, k / args.group, n, columns < S::kWidth ? columns : S::kWidth));
      n += S::kWidth;
      out += S::kWidth;
    }
  }

  /// Where W[n .. n + columns)[k .. k + depth) lies.
  static LinesAhead Ahead(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                          int64_t depth) {
    constexpr bool kAwq = packing == Packing::kAwq4;
    const int64_t inputs = kAwq ? 1 : 32 / BitsOf(packing);  // of a row of words
    const int64_t outputs = kAwq ? 8 : 1;                    // of a word
    const int64_t words = args.outputs / outputs;
    const int64_t row = k * kInputs / inputs;
    return {.row = static_cast<const char*>(args.weight) + (row * words + n / outputs) * 4,
            .stride = words * 4,
            .rows = depth * kInputs / inputs,
            .bytes = columns / outputs * 4};
  }

  /// Dequantises W[n .. n + columns)[k .. k + depth) into out[k][n], `stride` apart, or pairs its
  /// integers. k and depth are multiples of eight inputs.
  static void Pack(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                   int64_t depth, PanelPlace place) {
    // A line of AWQ's words is more outputs than a panel has, and the lines of many inputs do not
    // find room in the first cache side by side: so all vectors take theirs before the next inputs.
    if constexpr (packing == Packing::kAwq4) {
      if (columns == kPanelColumns<S>) {
        return PackVectors<S::kVectors>(args, n, S::kWidth, k, depth, place);
      }
    }
    for (; columns > 0; columns -= S::kWidth) {
      PackVectors<1>(args, n, columns < S::kWidth ? columns : S::kWidth, k, depth, place);
      n += S::kWidth;
      place.out += S::kWidth;
    }
  }

 private:
  template <int kVectors>
  static void PackVectors(const LinearKernelArgs& args, int64_t n, int64_t lanes, int64_t k,
                          int64_t depth, const PanelPlace& place) {
    using F = typename S::F;
    const int64_t end = k + depth;
    float* out = place.out;
    while (k < end) {
      const int64_t g = k / args.group;
      const int64_t group_end = (g + 1) * args.group < end ? (g + 1) * args.group : end;
      F zeros[kVectors];
      F scales[kVectors];
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        zeros[v] = ZerosOf<S, packing>(args, g, n + v * S::kWidth, lanes);
        scales[v] = ScalesOf<S>(args, g, n + v * S::kWidth, lanes);
      }
      for (; k < group_end; k += 8 / kInputs) {
        Codes<S, packing> codes[kVectors];
        XCOMPOSER_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          codes[v].Load(args, k * kInputs, n + v * S::kWidth, lanes);
        }
        for (int i = 0; i < 8; i += kInputs) {
          XCOMPOSER_UNROLL
          for (int v = 0; v < kVectors; ++v) {
            S::Store(out + v * S::kWidth, Number(codes[v], i, zeros[v], scales[v]));
          }
          out += place.stride;
        }
      }
    }
  }

  /// Of the panel: a weight, or a pair of integers.
  static XCOMPOSER_INLINE typename S::F Number(const Codes<S, packing>& codes, int i,
                                               typename S::F zero, typename S::F scale) {
    if constexpr (kScalesSums) {
      return S::PairLanes(S::Sub(codes.At(i), zero), S::Sub(codes.At(i + 1), zero));
    } else {
      return S::Mul(scale, S::Sub(codes.At(i), zero));
    }
  }
};

}  // namespace xcomposer::cpu
