#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"

namespace xcomposer::cpu {

/// Where Quantise writes; the layouts of PackedMatrix. N is a multiple of kPanelOutputs, K of 8.
struct QuantiseTarget {
  Packing packing = Packing::kInt4;  ///< kInt4 or kInt8
  int64_t group = 0;                 ///< a multiple of IntegerBlock, or not less than K
  uint32_t* words = nullptr;         ///< (N / 16, K * bits / 32, 16)
  uint32_t* zeros = nullptr;         ///< (N / 16, groups, bits / 2)
  uint16_t* scales = nullptr;        ///< (N / 16, groups, 16) float16
};

/// What was lost.
struct QuantiseLoss {
  double squared_error = 0;  ///< sum over all weights of (w - quantised w)^2
  double squares = 0;        ///< sum of w^2
  int64_t not_finite = 0;    ///< infinities and NaNs, which no code stands for; the target is then
                             ///< of no use
};

/// Round to nearest, each group by itself, in the weights' own order.
///
/// 8 bits: the zero is 128 and the scale the largest magnitude over 127, rounded up to float16. 4
/// bits: zero (1 to 15, so that 0 is a code) and scale are those with the least squared error among
/// eight shrunken ranges of the group's values, the scale then being fitted to the codes by least
/// squares. The result depends neither on the count of threads nor on the instruction set.
QuantiseLoss Quantise(const StoredMatrix& weight, const QuantiseTarget& target,
                      const Context& context);

/// The nearest float16, ties to even; infinite from 65520 on.
uint16_t ToFloat16(float value);

}  // namespace xcomposer::cpu
