#include "kernels/cpu/limits.h"

#include "kernels/cpu/cpu_info.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace xcomposer::cpu {
namespace {

// Enough chains to hide the latency of two units, few enough for the registers: whoever changes
// them looks at the disassembly, since one spilled accumulator halves what is measured.
constexpr int kChains = 12;
constexpr int kBfloatChains = 16;
constexpr int kMaddChains = 8;  // each needs a second register for what is not summed yet
constexpr int kPortableChains = 48;
constexpr int kTileChains = 6;    // of eight tiles, two are factors
constexpr int kTileProducts = 3;  // of bfloat16, for one of float32 (amx_panels.h)

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

// As instructions, like what follows; that the compilers know this one is newer than they are.
__attribute__((target("avx512f"))) float BfloatsAvx512(int64_t rounds) {
  __m512 sums[kBfloatChains];
#pragma GCC unroll 16
  for (int i = 0; i < kBfloatChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512i a = _mm512_set1_epi32(0x3f003f00);  // 0.5
  const __m512i b = _mm512_set1_epi32(0x3f803f80);  // 1
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kBfloatChains; ++i) {
      asm volatile("vdpbf16ps %2, %1, %0" : "+v"(sums[i]) : "v"(a), "v"(b));
    }
  }
  float total[16];
#pragma GCC unroll 16
  for (int i = 1; i < kBfloatChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  _mm512_storeu_ps(total, sums[0]);
  return total[0] + total[15];
}

// Written as instructions: of the intrinsics the compiler takes what does not change out of the
// loop, or copies every sum twice a round.
__attribute__((target("avx512f,avx512vnni"))) float DotsAvx512Vnni(int64_t rounds) {
  __m512i sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(sums[i]) : "v"(a), "v"(b));
    }
  }
  int32_t total[16];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_xor_si512(sums[0], sums[i]);
  _mm512_storeu_si512(total, sums[0]);
  return static_cast<float>(total[0]) + static_cast<float>(total[15]);
}

__attribute__((target("avx2"))) float FirstAndLast(__m256i lanes) {
  int32_t total[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(total), lanes);
  return static_cast<float>(total[0]) + static_cast<float>(total[7]);
}

__attribute__((target("avx2"))) float DotsAvx2Vnni(int64_t rounds) {
  __m256i sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_epi32(i);
  const __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums[i]) : "x"(a), "x"(b));
    }
  }
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
  return FirstAndLast(sums[0]);
}

__attribute__((target("avx2"))) float DotsAvx2(int64_t rounds) {
  __m256i sums[kMaddChains];
#pragma GCC unroll 16
  for (int i = 0; i < kMaddChains; ++i) sums[i] = _mm256_set1_epi32(i);
  const __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kMaddChains; ++i) {
      __m256i pairs;
      asm volatile("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(a), "x"(b));
      asm volatile("vpmaddwd %1, %0, %0" : "+x"(pairs) : "x"(ones));
      asm volatile("vpaddd %1, %0, %0" : "+x"(sums[i]) : "x"(pairs));
    }
  }
#pragma GCC unroll 16
  for (int i = 1; i < kMaddChains; ++i) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
  return FirstAndLast(sums[0]);
}

/// Tiles 0 .. 5 are sums, all numbers of tile i are sums[i]; 6 and 7 are factors, all dwords a and
/// b.
void BeginTiles(const uint32_t (&sums)[kTileChains], uint32_t a, uint32_t b) {
  struct alignas(64) Shapes {
    uint8_t palette = 1;
    uint8_t reserved[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  const Shapes shapes;
  asm volatile("ldtilecfg %0" : : "m"(shapes));
  alignas(64) uint32_t line[16];
  const auto fill = [&](uint32_t word) {
    for (uint32_t& place : line) place = word;
    return line;
  };
  // One line for all rows: they are no bytes apart.
  const int64_t apart = 0;
  asm volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(fill(sums[0])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm1" : : "r"(fill(sums[1])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm2" : : "r"(fill(sums[2])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm3" : : "r"(fill(sums[3])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm4" : : "r"(fill(sums[4])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm5" : : "r"(fill(sums[5])), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm6" : : "r"(fill(a)), "r"(apart) : "memory");
  asm volatile("tileloadd (%0,%1,1), %%tmm7" : : "r"(fill(b)), "r"(apart) : "memory");
}

/// The sums, (chain, row, number), and an end to the tiles.
void EndTiles(uint32_t (&sums)[kTileChains][256]) {
  const int64_t row = 64;
  asm volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(sums[0]), "r"(row) : "memory");
  asm volatile("tilestored %%tmm1, (%0,%1,1)" : : "r"(sums[1]), "r"(row) : "memory");
  asm volatile("tilestored %%tmm2, (%0,%1,1)" : : "r"(sums[2]), "r"(row) : "memory");
  asm volatile("tilestored %%tmm3, (%0,%1,1)" : : "r"(sums[3]), "r"(row) : "memory");
  asm volatile("tilestored %%tmm4, (%0,%1,1)" : : "r"(sums[4]), "r"(row) : "memory");
  asm volatile("tilestored %%tmm5, (%0,%1,1)" : : "r"(sums[5]), "r"(row) : "memory");
  asm volatile("tilerelease" : : : "memory");
}

float BfloatsAmx(int64_t rounds) {
  // From 0, 1, ... on, 32 products of 0.5 and 1 a round.
  BeginTiles({0, 0x3f800000, 0x40000000, 0x40400000, 0x40800000, 0x40a00000}, 0x3f003f00,
             0x3f803f80);
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile(
        "tdpbf16ps %tmm7, %tmm6, %tmm0\n\ttdpbf16ps %tmm7, %tmm6, %tmm1\n\t"
        "tdpbf16ps %tmm7, %tmm6, %tmm2\n\ttdpbf16ps %tmm7, %tmm6, %tmm3\n\t"
        "tdpbf16ps %tmm7, %tmm6, %tmm4\n\ttdpbf16ps %tmm7, %tmm6, %tmm5");
  }
  alignas(64) uint32_t sums[kTileChains][256];
  EndTiles(sums);
  float total = 0;
  for (const auto& chain : sums) {
    float ends[2];
    __builtin_memcpy(&ends[0], &chain[0], sizeof(float));
    __builtin_memcpy(&ends[1], &chain[255], sizeof(float));
    total += ends[0] + ends[1];
  }
  return total;
}

float DotsAmx(int64_t rounds) {
  BeginTiles({0, 1, 2, 3, 4, 5}, 0xfbfbfbfb, 0x03030303);  // -5, signed, and 3
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile(
        "tdpbsud %tmm7, %tmm6, %tmm0\n\ttdpbsud %tmm7, %tmm6, %tmm1\n\t"
        "tdpbsud %tmm7, %tmm6, %tmm2\n\ttdpbsud %tmm7, %tmm6, %tmm3\n\t"
        "tdpbsud %tmm7, %tmm6, %tmm4\n\ttdpbsud %tmm7, %tmm6, %tmm5");
  }
  alignas(64) uint32_t sums[kTileChains][256];
  EndTiles(sums);
  uint32_t first = 0;
  uint32_t last = 0;
  for (const auto& chain : sums) {
    first ^= chain[0];
    last ^= chain[255];
  }
  return static_cast<float>(static_cast<int32_t>(first)) +
         static_cast<float>(static_cast<int32_t>(last));
}
#endif

float ProductsAndSums(int64_t rounds) {
  float sums[kPortableChains];
  for (int i = 0; i < kPortableChains; ++i) sums[i] = static_cast<float>(i);
  for (int64_t round = 0; round < rounds; ++round) {
    for (float& sum : sums) sum = sum * 0.999f + 0.001f;
  }
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

template <int kStreams>
uint64_t ReadStreams(const char* memory, int64_t bytes) {
  constexpr int64_t kLine = 64;
  constexpr int64_t kAhead = 1536;
  const int64_t run = bytes / kStreams / kLine * kLine;
  uint64_t sums[kStreams] = {};
  for (int64_t i = 0; i < run; i += kLine) {
    for (int64_t s = 0; s < kStreams; ++s) {
      const char* line = memory + s * run + i;
      __builtin_prefetch(line + kAhead);
      uint64_t value;
      __builtin_memcpy(&value, line, sizeof(value));
      sums[s] += value;
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

float RunFmas(int64_t rounds) {
#if defined(__x86_64__)
  if (BestIsa() >= Isa::kAmx) return BfloatsAmx(rounds);
  if (BestIsa() >= Isa::kAvx512) return FmasAvx512(rounds);
  if (BestIsa() >= Isa::kAvx2) return FmasAvx2(rounds);
#endif
  return ProductsAndSums(rounds);
}

double FlopsPerRound() {
  if (BestIsa() >= Isa::kAmx) return 2.0 * kTileChains * 16 * 16 * 32 / kTileProducts;
  if (BestIsa() >= Isa::kAvx512) return 2.0 * kChains * 16;
  if (BestIsa() >= Isa::kAvx2) return 2.0 * kChains * 8;
  return 2.0 * kPortableChains;
}

float RunIntegerDots(int64_t rounds) {
#if defined(__x86_64__)
  if (BestIsa() >= Isa::kAmx) return DotsAmx(rounds);
  if (BestIsa() >= Isa::kAvx512Vnni) return DotsAvx512Vnni(rounds);
  if (BestIsa() == Isa::kAvx2Vnni) return DotsAvx2Vnni(rounds);
  if (BestIsa() >= Isa::kAvx2) return DotsAvx2(rounds);
#endif
  return ProductsAndSums(rounds);
}

double OpsPerIntegerRound() {
  if (BestIsa() >= Isa::kAmx) return 2.0 * kTileChains * 16 * 16 * 64;
  if (BestIsa() >= Isa::kAvx512Vnni) return 2.0 * kChains * 64;
  if (BestIsa() == Isa::kAvx2Vnni) return 2.0 * kChains * 32;
  if (BestIsa() >= Isa::kAvx2) return 2.0 * kMaddChains * 32;
  return 2.0 * kPortableChains;
}

const char* IntegerDotName() {
  if (BestIsa() >= Isa::kAmx) return "tdpbsud";
  if (BestIsa() >= Isa::kAvx512Vnni) return "vpdpbusd";
  if (BestIsa() == Isa::kAvx2Vnni) return "vpdpbusd of 256 bits";
  return BestIsa() >= Isa::kAvx2 ? "vpmaddubsw" : "";
}

float RunBfloatDots(int64_t rounds) {
#if defined(__x86_64__)
  if (BestIsa() >= Isa::kAmx) return BfloatsAmx(rounds);
  if (BestIsa() >= Isa::kAvx512Bf16) return BfloatsAvx512(rounds);
#endif
  return RunFmas(rounds);
}

double OpsPerBfloatRound() {
  if (BestIsa() >= Isa::kAmx) return 2.0 * kTileChains * 16 * 16 * 32;
  if (BestIsa() >= Isa::kAvx512Bf16) return 2.0 * kBfloatChains * 32;
  return FlopsPerRound();
}

const char* BfloatDotName() {
  if (BestIsa() >= Isa::kAmx) return "tdpbf16ps";
  return BestIsa() >= Isa::kAvx512Bf16 ? "vdpbf16ps" : "";
}

uint64_t ReadAll(const char* memory, int64_t bytes, int streams) {
  switch (streams) {
    case 1:
      return ReadStreams<1>(memory, bytes);
    case 2:
      return ReadStreams<2>(memory, bytes);
    case 8:
      return ReadStreams<8>(memory, bytes);
    default:
      return ReadStreams<4>(memory, bytes);
  }
}

}  // namespace xcomposer::cpu
