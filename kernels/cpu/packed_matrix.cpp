#include "kernels/cpu/packed_matrix.h"

#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {
namespace {

uint32_t Field(uint32_t word, int bits, int64_t i) {
  return (word >> (bits * static_cast<int>(i))) & ((1u << bits) - 1u);
}

/// The field of an AWQ word, or of a GPTQ row of zeros, for output n.
uint32_t FieldOfOutput(const PackedMatrix& matrix, const uint32_t* row, int64_t n) {
  const int bits = BitsOf(matrix.packing);
  const int64_t per_word = 32 / bits;
  const int64_t i = n % per_word;
  return Field(row[n / per_word], bits, matrix.packing == Packing::kAwq4 ? kAwqNibble[i] : i);
}

uint32_t Code(const PackedMatrix& matrix, int64_t n, int64_t k) {
  if (matrix.packing == Packing::kAwq4) {
    return FieldOfOutput(matrix, matrix.words + k * (matrix.rows / 8), n);
  }
  const int bits = BitsOf(matrix.packing);
  const int64_t per_word = 32 / bits;
  return Field(matrix.words[k / per_word * matrix.rows + n], bits, k % per_word);
}

}  // namespace

void Dequantise(const PackedMatrix& matrix, float* out) {
  const int64_t zero_words = matrix.rows * BitsOf(matrix.packing) / 32;
  const uint32_t offset = matrix.packing == Packing::kAwq4 ? 0 : 1;
  const auto* scales = static_cast<const uint16_t*>(matrix.scales);
  for (int64_t n = 0; n < matrix.rows; ++n) {
    for (int64_t k = 0; k < matrix.columns; ++k) {
      const int64_t g = k / matrix.group;
      const uint32_t zero = FieldOfOutput(matrix, matrix.zeros + g * zero_words, n) + offset;
      const float scale = Widen<Portable, Format::kFloat16>(scales + g * matrix.rows + n);
      const float step = static_cast<float>(Code(matrix, n, k)) - static_cast<float>(zero);
      out[n * matrix.columns + k] = scale * step;
    }
  }
}

}  // namespace xcomposer::cpu
