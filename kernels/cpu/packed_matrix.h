#pragma once

#include <cstdint>

namespace xcomposer::cpu {

/// How the codes of a quantised matrix W (N outputs, K inputs) are packed into 32-bit words; field
/// i of a word is bits i * width .. (i + 1) * width - 1. W[n, k] = scale * (code - zero), with one
/// scale and one zero per output and group of inputs. docs/quantisation.md shows the layouts.
enum class Packing {
  kGptq4,  ///< words (K / 8, N): field i of word [r, n] is input 8 r + i; zeros less one
  kGptq8,  ///< words (K / 4, N): field i of word [r, n] is input 4 r + i; zeros less one
  kAwq4,   ///< words (K, N / 8): field i of word [k, c] is output 8 c + (0,2,4,6,1,3,5,7)[i]
};

inline constexpr int kPackings = 3;

/// Bits of one code.
constexpr int BitsOf(Packing packing) { return packing == Packing::kGptq8 ? 8 : 4; }

/// The nibble of an AWQ word that holds output 8 c + o.
inline constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// A quantised matrix as stored. N and K are multiples of 8.
struct PackedMatrix {
  Packing packing = Packing::kGptq4;
  const uint32_t* words = nullptr;
  /// (groups, N * bits / 32); field i of word [g, c] belongs to output c * 32 / bits + i, in AWQ in
  /// the order of its words. GPTQ stores every zero less one.
  const uint32_t* zeros = nullptr;
  const void* scales = nullptr;  ///< (groups, N) float16
  int64_t rows = 0;              ///< N
  int64_t columns = 0;           ///< K
  int64_t group = 0;  ///< inputs of a group, a multiple of 8; the last group may be shorter
  /// x may be rounded to integers (integer_panels.h); where not, or where the groups do not fit, x
  /// stays float32.
  bool rounds_x = false;

  int64_t groups() const { return (columns + group - 1) / group; }
};

/// Most inputs of a row of x that share a scale where x is rounded; the blocks of every instruction
/// set divide it.
constexpr int64_t IntegerBlock(Packing packing) { return packing == Packing::kGptq8 ? 128 : 32; }

/// Whether x is rounded: asked for, and no block of inputs lies in two groups.
constexpr bool TakesIntegers(const PackedMatrix& matrix) {
  const int64_t block = IntegerBlock(matrix.packing);
  return matrix.rounds_x && matrix.packing != Packing::kAwq4 &&
         (matrix.group % block == 0 || matrix.group >= matrix.columns);
}

/// W as float32, (N, K) row-major: exact, since a float16 times an integer of nine bits fits into
/// float32.
void Dequantise(const PackedMatrix& matrix, float* out);

}  // namespace xcomposer::cpu
