#include "kernels/cpu/packed_matrix.h"

#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {
namespace {

/// Field i of `bits` bits of some words.
uint32_t FieldOf(const uint32_t* words, int bits, int64_t i) {
  const int64_t per_word = 32 / bits;
  return (words[i / per_word] >> (bits * static_cast<int>(i % per_word))) & ((1u << bits) - 1u);
}

uint32_t Zero(const PackedMatrix& matrix, int64_t n, int64_t g) {
  const int bits = BitsOf(matrix.packing);
  const uint32_t* row = matrix.zeros + g * (matrix.rows * bits / 32);
  switch (matrix.packing) {
    case Packing::kAwq4:
      return FieldOf(row + n / 8, bits, kAwqNibble[n % 8]);
    case Packing::kGptq4:
    case Packing::kGptq8:
      return FieldOf(row, bits, n) + 1;
    case Packing::kInt4:
    case Packing::kInt8:
      break;
  }
  const int64_t group = n / kPanelOutputs * matrix.groups() + g;
  return FieldOf(matrix.zeros + group * (kPanelOutputs * bits / 32), bits, n % kPanelOutputs);
}

uint32_t Code(const PackedMatrix& matrix, int64_t n, int64_t k) {
  const int bits = BitsOf(matrix.packing);
  const int64_t per_word = 32 / bits;
  const int64_t row = k / per_word;
  switch (matrix.packing) {
    case Packing::kAwq4:
      return FieldOf(matrix.words + (k * matrix.rows + n) / 8, bits, kAwqNibble[n % 8]);
    case Packing::kGptq4:
    case Packing::kGptq8:
      return FieldOf(matrix.words + row * matrix.rows + n, bits, k % per_word);
    case Packing::kInt4:
    case Packing::kInt8:
      break;
  }
  const int64_t panel_row = n / kPanelOutputs * (matrix.columns / per_word) + row;
  const uint32_t* word = matrix.words + panel_row * kPanelOutputs + n % kPanelOutputs;
  return FieldOf(word, bits, k % per_word);
}

float Scale(const PackedMatrix& matrix, int64_t n, int64_t g) {
  const int64_t place =
      TakesIntegers(matrix.packing)
          ? (n / kPanelOutputs * matrix.groups() + g) * kPanelOutputs + n % kPanelOutputs
          : g * matrix.rows + n;
  return Widen<Portable, Format::kFloat16>(static_cast<const uint16_t*>(matrix.scales) + place);
}

}  // namespace

void Dequantise(const PackedMatrix& matrix, float* out) {
  for (int64_t n = 0; n < matrix.rows; ++n) {
    for (int64_t k = 0; k < matrix.columns; ++k) {
      const int64_t g = k / matrix.group;
      const float step =
          static_cast<float>(Code(matrix, n, k)) - static_cast<float>(Zero(matrix, n, g));
      out[n * matrix.columns + k] = Scale(matrix, n, g) * step;
    }
  }
}

}  // namespace xcomposer::cpu
