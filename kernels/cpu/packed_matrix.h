#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/inline.h"

namespace xcomposer::cpu {

/// How the codes of a quantised matrix W (N outputs, K inputs) are packed into 32-bit words; field
/// i of a word is bits i * width .. (i + 1) * width - 1. W[n, k] = scale * (code - zero), with one
/// scale and one zero per output and group of inputs. docs/quantisation.md shows the layouts.
///
/// Official checkpoints are in the first three. What this program quantises itself lies in panels
/// of kPanelOutputs outputs, each a run of memory of its own.
enum class Packing {
  kGptq4,  ///< words (K / 8, N): field i of word [r, n] is input 8 r + i; zeros less one
  kGptq8,  ///< words (K / 4, N): field i of word [r, n] is input 4 r + i; zeros less one
  kAwq4,   ///< words (K, N / 8): field i of word [k, c] is output 8 c + (0,2,4,6,1,3,5,7)[i]
  kInt4,   ///< words (N / 16, K / 8, 16): field i of word [p, r, o] is input 8 r + i of 16 p + o
  kInt8,   ///< words (N / 16, K / 4, 16): field i of word [p, r, o] is input 4 r + i of 16 p + o
};

inline constexpr int kOfficialPackings = 3;  ///< the first ones

inline constexpr int64_t kPanelOutputs = 16;

/// Bits of one code.
constexpr XCOMPOSER_INLINE int BitsOf(Packing packing) {
  return packing == Packing::kGptq8 || packing == Packing::kInt8 ? 8 : 4;
}

/// Inputs that a word holds; not kAwq4.
constexpr XCOMPOSER_INLINE int64_t InputsOfWord(Packing packing) { return 32 / BitsOf(packing); }

/// The nibble of an AWQ word that holds output 8 c + o.
inline constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// A quantised matrix as stored. K is a multiple of 8, and N of 8 or, in panels, of kPanelOutputs.
struct PackedMatrix {
  Packing packing = Packing::kGptq4;
  const uint32_t* words = nullptr;
  /// (groups, N * bits / 32); field i of word [g, c] belongs to output c * 32 / bits + i, in AWQ in
  /// the order of its words. GPTQ stores every zero less one. In panels (N / 16, groups, bits / 2).
  const uint32_t* zeros = nullptr;
  const void* scales = nullptr;  ///< (groups, N) float16; in panels (N / 16, groups, 16)
  int64_t rows = 0;              ///< N
  int64_t columns = 0;           ///< K
  /// Inputs of a group, a multiple of 8, in panels of IntegerBlock or not less than K; the last
  /// group may be shorter.
  int64_t group = 0;

  int64_t groups() const { return (columns + group - 1) / group; }
};

/// Whether rows of x are rounded and products are of integers (integer_panels.h): with weights in
/// panels. With all others x stays float32.
constexpr XCOMPOSER_INLINE bool TakesIntegers(Packing packing) {
  return packing == Packing::kInt4 || packing == Packing::kInt8;
}

/// Place of such a packing among those of which this is true.
constexpr XCOMPOSER_INLINE size_t IntegerIndex(Packing packing) {
  return packing == Packing::kInt8 ? 1 : 0;
}

/// Most inputs of a row of x that share a scale where x is rounded; the blocks of every instruction
/// set divide it. No block lies in two groups of the weight.
constexpr XCOMPOSER_INLINE int64_t IntegerBlock(Packing packing) {
  return packing == Packing::kInt8 ? 128 : 32;
}

/// W as float32, (N, K) row-major: exact, since a float16 times an integer of nine bits fits into
/// float32.
void Dequantise(const PackedMatrix& matrix, float* out);

}  // namespace xcomposer::cpu
