#include "bench/limits.h"

#include "kernels/cpu/cpu_info.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace xcomposer::cpu {
namespace {

constexpr int kChains =
    12;  // enough to hide the latency of two units, few enough for the registers

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float FmasAvx512(int64_t rounds) {
  __m512 sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f);
  const __m512 b = _mm512_set1_ps(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
  }
  float total[16];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  _mm512_storeu_ps(total, sums[0]);
  return total[0] + total[15];
}

__attribute__((target("avx2,fma"))) float FmasAvx2(int64_t rounds) {
  __m256 sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f);
  const __m256 b = _mm256_set1_ps(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], a, b);
  }
  float total[8];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  _mm256_storeu_ps(total, sums[0]);
  return total[0] + total[7];
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) float DotsVnni(int64_t rounds) {
  __m512i sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
  }
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  int32_t total[16];
  _mm512_storeu_si512(total, sums[0]);
  return static_cast<float>(total[0]);
}

// The factor changes with every round, or the compiler would take the product out of the loop.
__attribute__((target("avx2"))) float DotsAvx2(int64_t rounds) {
  __m256i sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_epi32(i);
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      asm("" : "+x"(a));
      const __m256i pairs = _mm256_maddubs_epi16(a, b);
      sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
    }
  }
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  int32_t total[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(total), sums[0]);
  return static_cast<float>(total[0]);
}
#endif

float ProductsAndSums(int64_t rounds) {
  float sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = static_cast<float>(i);
  for (int64_t round = 0; round < rounds; ++round) {
    for (float& sum : sums) sum = sum * 0.999f + 0.001f;
  }
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

}  // namespace

float RunFmas(int64_t rounds) {
#if defined(__x86_64__)
  if (BestIsa() >= Isa::kAvx512) return FmasAvx512(rounds);
  if (BestIsa() == Isa::kAvx2) return FmasAvx2(rounds);
#endif
  return ProductsAndSums(rounds);
}

float RunIntegerDots(int64_t rounds) {
#if defined(__x86_64__)
  if (BestIsa() == Isa::kAvx512Vnni) return DotsVnni(rounds);
  if (BestIsa() >= Isa::kAvx2) return DotsAvx2(rounds);
#endif
  return ProductsAndSums(rounds);
}

double OpsPerIntegerRound() {
  const Isa isa = BestIsa();
  return 2.0 * kChains * (isa == Isa::kAvx512Vnni ? 64 : isa >= Isa::kAvx2 ? 32 : 1);
}

double FlopsPerRound() {
  const Isa isa = BestIsa();
  return 2.0 * kChains * (isa >= Isa::kAvx512 ? 16 : isa == Isa::kAvx2 ? 8 : 1);
}

uint64_t ReadAll(const char* memory, int64_t bytes) {
  constexpr int64_t kLine = 64;
  constexpr int64_t kAhead = 1536;
  const int64_t quarter = bytes / 4 / kLine * kLine;
  uint64_t sums[4] = {};
  for (int64_t i = 0; i < quarter; i += kLine) {
    for (int64_t s = 0; s < 4; ++s) {
      const char* line = memory + s * quarter + i;
      __builtin_prefetch(line + kAhead);
      uint64_t value;
      __builtin_memcpy(&value, line, sizeof(value));
      sums[s] += value;
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

}  // namespace xcomposer::cpu
