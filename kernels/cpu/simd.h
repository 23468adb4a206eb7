#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/number.h"

// Unrolls the loop that follows as a whole; its bounds must be constants. The second one takes four
// turns at a time: where instructions, not arithmetic, are what a loop waits for, counters count.
// The third keeps single turns: with several to arrange at once, sums end up in memory.
#if defined(__clang__)
#define XCOMPOSER_UNROLL _Pragma("unroll")
#define XCOMPOSER_UNROLL_4 _Pragma("unroll 4")
#define XCOMPOSER_ONE_TURN _Pragma("unroll 1")
#else
#define XCOMPOSER_UNROLL _Pragma("GCC unroll 16")
#define XCOMPOSER_UNROLL_4 _Pragma("GCC unroll 4")
#define XCOMPOSER_ONE_TURN _Pragma("GCC unroll 1")
#endif

// The kernels' templates are written over a structure S per instruction set: Portable, Avx2,
// Avx512, each in a header of its own (simd_*.h). A function that a source compiles for a wide set
// must not be picked by the linker for a processor that lacks the set. So each of these sources
// (isa_*.cpp) has an S of its own, and all that they compile are members of that S, templates over
// it, or always inlined; for the same reason these use no std:: functions. A test asks the objects
// (tests/kernels/check_isa_symbols.cmake). Members of S:
//
// clang-format off
//   kWidth                              floats in a vector F
//   kRows, kVectors                     sums that fit into the registers: kRows x (kVectors * kWidth)
//   kIntegerRows, kIntegerVectors       the same for sums of products of integers
//   Load(p), Store(p, f)                anywhere in memory
//   LoadN(p, n), StoreN(p, f, n)        the first n < kWidth; zeros for the rest
//   LoadAs<Format>(p), LoadAsN<...>     stored numbers, widened
//   LoadFirst<Format>(p),               2 * kWidth stored numbers in two vectors, in an order that is
//   LoadSecond<Format>(p)               cheap for this format ...
//   StorePairs<Format>(x, out)          ... and so many floats in the same order
//   kJoinsLines                         whether there are:
//   LoadLine(p), LoadLinePart(p, b, e)  an aligned line of 64 bytes; bytes b .. e - 1, else zeros
//   JoinLines(w, JoinPlaces(s), next)   64 bytes from byte s of w on, s a multiple of 4
//   First<Format>(w), Second<Format>(w) LoadFirst and LoadSecond of 16-bit numbers in a register
//   Prefetch(p)                         asks for a line
//   Keep(f)                             f, in a register: not read again from memory for each use
//   Fma(a, b, c)                        a * b + c, one rounding where the processor has it
//   Max, Min                            the second operand where one is not a number
//   Less(a, b, x, y)                    a < b ? x : y
//   Round(a)                            to the nearest whole number, |a| < 2^22
//   PowerOfTwo(n)                       2^n for whole n in [-126, 128]; 2^128 = inf
//   Sum(a), Largest(a)                  of all lanes, sums in a fixed order
//   SumFours(a)                         lane 4 i + h: Sum(a[i][h]), i < kWidth / 4, h < 4
//   PackRows(rows, out, stride)         out[c * stride + r] = rows[r][c], c < 8, r < kRows
//   W, LoadWords(p), LoadWordsN(p, n)   kWidth 32-bit words
//   SetWords(n), StoreWords(p, w)       one word in all lanes; the counterpart of LoadWords
//   KeepWords(w)                        w, in a register: sums are not taken in another order
//   RoundToWords(f), FromWords(w)       to the nearest int32 and back
//   kCodeWords                          words that StoreBytes and StoreShorts take from memory:
//   StoreBytes<kApart>(words, out)      the lowest byte of each; kApart: the even ones of every eight
//                                       before the odd ones
//   StoreShorts(words, out)             the lower half of each, the even ones of every four first
//   EvenBytes(w), OddBytes(w)           bytes 0 and 2, or 1 and 3, of each word as two of 16 bits
//   LowNibbles(w), HighNibbles(w)       of each byte
//   DotPairs(sum, a, b)                 sum + a0 b0 + a1 b1, each word two int16
//   DotBytes(sum, a, b), Widened(sum)   sum + a0 b0 + ... + a3 b3, a 4-bit codes, b int8 above -128;
//                                       up to eight of them before Widened makes a sum of int32
//   kRoundsToBytes                      x has 8 bits for weights of 8 bits, else 16
//   kMultipliesBytes                    DotBytes takes codes of 8 bits too
//   kMultipliesPairs                    words hold pairs of bfloat16, see bfloat_pairs.h
//   SubProduct(sum, a, b)               sum - a * b in 32 bits
//   SubShortProduct(sum, a, b)          the same, 0 <= a < 2^15, b of 16 bits
//   Field<bits>(w, i)                   bits i * bits and on of each word, as floats
//   PlacedField<bits>(w, i)             the same without shifting, but for the uppermost: times
//                                       2^(i * bits)
//   TurnEights(rows, out)               out[c * 8 + r] = rows[r][c], c < kWidth, r < 8
//   AddWords(a, b), SumWords(a)         a + b in 32 bits; the sum of all lanes
//   Raised<n>(w)                        w << n
//   WithNibble(a, b)                    a, with bits 20 to 23 of b where a has zeros
//   PackedNumbers(w)                    a float of the upper 12 bits of each word: sign, four bits of
//                                       exponent, to which 112 is added, seven of mantissa
//   PackedPair(even, odd)               the same as halves of a word, nothing added
//   NibbleWords<awq>(row, n, lanes)     4-bit fields of outputs n .. n + lanes of a row of words
//   ByteWords(p, lanes)                 bytes as words; lanes is kWidth or 8 < kWidth, also above
//   SignedBytes(p)                      kWidth of int8 as floats
//   kPackColumns<Format>                columns that PackWeights takes at a time
//   PackWeights<Format>(rows, out, stride)  the same, widened, c < kPackColumns, r < kWidth
// clang-format on
namespace xcomposer::cpu {

/// The C++ type in which a number of `format` is read.
template <Format format>
struct ElementOf {
  using Type = uint16_t;
};
template <>
struct ElementOf<Format::kFloat32> {
  using Type = float;
};

/// `place`, of which the compiler knows nothing any more: what lies there is loaded and stored
/// where the code says so, not kept in a register for longer.
template <typename S, typename T>
XCOMPOSER_INLINE T* Unknown(T* place) {
  asm("" : "+r"(place));
  return place;
}

/// One stored number as float; `S` keeps the instantiations of different instruction sets apart.
/// The number may lie anywhere: a file's header need not leave its tensors aligned.
template <typename S, Format format>
inline float Widen(const typename ElementOf<format>::Type* place) {
  typename ElementOf<format>::Type stored;
  std::memcpy(&stored, place, sizeof(stored));
  if constexpr (format == Format::kFloat32) {
    return stored;
  } else if constexpr (format == Format::kBfloat16) {
    const uint32_t bits = static_cast<uint32_t>(stored) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  } else {
    const uint32_t sign = static_cast<uint32_t>(stored & 0x8000u) << 16;
    const uint32_t exponent = (stored >> 10) & 31u;
    const uint32_t fraction = stored & 0x3ffu;
    uint32_t bits;
    if (exponent == 31) {
      bits = sign | 0x7f800000u | (fraction << 13);
    } else if (exponent != 0) {
      bits = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {
      // Subnormal: fraction * 2^-24, exact in float.
      const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
      std::memcpy(&bits, &magnitude, sizeof(bits));
      bits |= sign;
    }
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
}

}  // namespace xcomposer::cpu
