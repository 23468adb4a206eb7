#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Outputs of a panel of the weight.
template <typename S>
inline constexpr int64_t kIntegerColumns = S::kIntegerVectors* S::kWidth;

/// Codes of one block, inputs from k on in group g, for some vectors of outputs, taken out of the
/// weight as it is stored. Only a single vector may have fewer lanes than a whole one.
template <typename S, Packing packing, int kVectors>
struct StoredCodes {
  using F = typename S::F;
  using W = typename S::W;

  StoredCodes(const LinearKernelArgs& args, int64_t k, int64_t g, int64_t n, int64_t lanes_)
      : words(static_cast<const uint32_t*>(args.weight) + k * BitsOf(packing) / 32 * args.outputs +
              n),
        stride(args.outputs),
        lanes(lanes_) {
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      zeros[v] = ZeroWordsOf<S, packing>(args, g, n + v * S::kWidth, lanes);
      scales[v] = ScalesOf<S>(args, g, n + v * S::kWidth, lanes);
    }
  }

  /// Of a row of words.
  template <int kHalf>
  XCOMPOSER_INLINE W Codes(const uint32_t* row, int v) const {
    const uint32_t* place = row + v * S::kWidth;
    const bool whole = kVectors > 1 || lanes >= S::kWidth;
    const W stored = whole ? S::LoadWords(place) : S::LoadWordsN(place, lanes);
    return IntegerCodes<S, packing>::template Half<kHalf>(stored);
  }
  XCOMPOSER_INLINE W Zeros(int v) const { return zeros[v]; }
  XCOMPOSER_INLINE F Scales(int v) const { return scales[v]; }

  const uint32_t* words;
  int64_t stride;
  int64_t lanes;
  W zeros[kVectors];
  F scales[kVectors];
};

}  // namespace xcomposer::cpu
