#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"

namespace xcomposer::cpu {

// A bfloat16 matrix in 12 bits a number, exactly. Of the eight bits of an exponent a trained matrix
// uses few: sixteen neighbouring exponents hold all but one in some thousands of a row's numbers.
// So a number is its sign, four bits of how far its exponent is above the row's least one, and its
// seven bits of mantissa; the few that do not fit, zeros among them, are listed beside the matrix.
// Three quarters of the bytes are read for the same products, bit for bit. docs/quantisation.md
// shows the layout, with a reader in Python.

/// Rows of the weight that lie side by side, a block of each after the other: sums of one row wait
/// for each other, those of four keep up with memory.
inline constexpr int64_t kBf12Rows = 4;
/// Inputs of a block: three lines of memory.
inline constexpr int64_t kBf12Block = 128;
/// Words of one row's block. Word l of each line holds for lane l, from the highest bit down, two
/// numbers and eight bits of a seventh and an eighth.
inline constexpr int64_t kBf12Words = 48;

/// One number in so many may be an outlier: memory for as many is reserved.
inline constexpr int64_t kBf12OutlierShare = 512;

/// A packed matrix W (N outputs, K inputs), N a multiple of kBf12Rows, K of kBf12Block.
struct Bf12Matrix {
  const uint32_t* words = nullptr;  ///< (N / 4, K / 128, 4, 48)
  /// (N): 2^(e - 112), e the row's least exponent; packed numbers are multiplied with it.
  const float* scales = nullptr;
  /// (N / 4 + 1): where the outliers of each four rows begin and the last ones end, counted in
  /// words from here; then pairs of words: input * 4 + row, ascending, and the bits of a float32 in
  /// place of the packed number.
  const int32_t* outliers = nullptr;
  int64_t rows = 0;     ///< N
  int64_t columns = 0;  ///< K
};

/// Whether matrices of this size can be packed.
bool FitsBf12(int64_t rows, int64_t columns);

/// What PackBf12 fills; words and scales have room as in Bf12Matrix.
struct Bf12Target {
  uint32_t* words = nullptr;
  float* scales = nullptr;
};

/// Packs a bfloat16 matrix that FitsBf12 and gives its outliers. Nothing where packing does not pay
/// or is not exact: more than one number in kBf12OutlierShare is an outlier, or one is that float32
/// does not hold beside its row's scale. The result does not depend on the count of threads.
std::optional<std::vector<int32_t>> PackBf12(const StoredMatrix& matrix, const Bf12Target& target,
                                             const Context& context);

/// The rows [first, first + rows) of W as bfloat16, row-major: the numbers that were packed, bit
/// for bit. Both are multiples of kBf12Rows.
void UnpackBf12(const Bf12Matrix& matrix, int64_t first, int64_t rows, uint16_t* out);

/// What PackBf12 would not have written, in words: scales that are no power of two of a bfloat16
/// number; outliers elsewhere than within `outlier_words` and their rows, in no order, too many, or
/// of numbers that are no bfloat16 or none that must be one. Empty where kernels may read the
/// matrix. From a file anything may come.
std::string Bf12Fault(const Bf12Matrix& matrix, int64_t outlier_words);

}  // namespace xcomposer::cpu
