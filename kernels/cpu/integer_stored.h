#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// One panel of outputs of a weight.
template <typename S, Packing packing>
struct StoredPanel {
  static_assert(kPanelOutputs % S::kWidth == 0);
  static constexpr int64_t kZeroWords = kPanelOutputs / InputsOfWord(packing);  ///< of a group

  StoredPanel(const LinearKernelArgs& args, int64_t panel) {
    const int64_t groups = (args.depth + args.group - 1) / args.group;
    words = static_cast<const uint32_t*>(args.weight) +
            panel * (args.depth / InputsOfWord(packing) * kPanelOutputs);
    zeros = args.zeros + panel * groups * kZeroWords;
    scales = static_cast<const uint16_t*>(args.scales) + panel * groups * kPanelOutputs;
  }

  /// Of group g and the outputs of one vector, from `lane` on.
  XCOMPOSER_INLINE typename S::W Zeros(int64_t g, int64_t lane) const {
    const uint32_t* row = zeros + g * kZeroWords;
    if constexpr (packing == Packing::kInt4) {
      return S::template NibbleWords<false>(row, lane, S::kWidth);
    } else {
      return S::ByteWords(reinterpret_cast<const uint8_t*>(row) + lane, S::kWidth);
    }
  }
  XCOMPOSER_INLINE typename S::F Scales(int64_t g, int64_t lane) const {
    return S::template LoadAs<Format::kFloat16>(scales + g * kPanelOutputs + lane);
  }

  const uint32_t* words;   ///< (input / InputsOfWord, output)
  const uint32_t* zeros;   ///< (group, kZeroWords)
  const uint16_t* scales;  ///< (group, output)
};

}  // namespace xcomposer::cpu
