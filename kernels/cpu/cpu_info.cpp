#include "kernels/cpu/cpu_info.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <ranges>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace xcomposer::cpu {
namespace {

#if defined(__x86_64__)
// Clang's __builtin_cpu_supports does not know this one by name.
bool HasF16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

// Features that __builtin_cpu_supports does not know in all compilers either.
constexpr unsigned kAvxVnni = 1u << 4;
constexpr unsigned kAvx512Bf16 = 1u << 5;
bool HasYounger(unsigned feature) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & feature) != 0;
}

#if defined(__linux__)
/// The processor has tiles with products of bfloat16 and int8.
bool HasTiles() {
  constexpr unsigned kBfloat16 = 1u << 22;
  constexpr unsigned kTile = 1u << 24;
  constexpr unsigned kInt8 = 1u << 25;
  constexpr unsigned kAll = kBfloat16 | kTile | kInt8;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAll) == kAll;
}

/// The operating system keeps tiles when threads change (both parts of their state).
bool KeepsTiles() {
  constexpr unsigned kTileState = 3u << 17;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  unsigned low = 0, high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileState) == kTileState;
}

/// Linux gives the 8 KiB of a thread's tiles only to processes that asked for them.
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, younger than some headers
  constexpr int kTileData = 18;
  return HasTiles() && KeepsTiles() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool MayUseTiles() { return false; }
#endif
#endif

/// Whether this processor and operating system offer it. Linux is asked for tiles.
bool Offers(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
    case Isa::kAvx2Vnni:
      return Offers(Isa::kAvx2) && HasYounger(kAvxVnni);
    case Isa::kAvx512:
      return Offers(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Isa::kAvx512Vnni:
      return Offers(Isa::kAvx512) && __builtin_cpu_supports("avx512vnni");
    case Isa::kAvx512Bf16:
      return Offers(Isa::kAvx512Vnni) && HasYounger(kAvx512Bf16);
    case Isa::kAmx:
      return Offers(Isa::kAvx512Bf16) && MayUseTiles();
  }
#endif
  return isa == Isa::kPortable;
}

std::string_view MaxIsaName() {
  const char* name = std::getenv(kMaxIsaVariable);
  return name == nullptr ? "" : name;
}

std::optional<Isa> MaxIsa() {
  const auto* isa = std::ranges::find_if(
      kAllIsas, [name = MaxIsaName()](Isa each) { return name == ToString(each); });
  if (isa == std::end(kAllIsas)) return std::nullopt;
  return *isa;
}

}  // namespace

Isa BestIsa() {
  // Asked once: in a virtual machine each cpuid is a trap, and kernels come here often.
  static const Isa best = [most = MaxIsa().value_or(Isa::kAmx)] {
    for (const Isa isa : std::views::reverse(kAllIsas)) {
      if (isa <= most && Offers(isa)) return isa;
    }
    return Isa::kPortable;
  }();
  return best;
}

bool MayRun(Isa isa) { return isa <= BestIsa() && Offers(isa); }

std::string MaxIsaProblem() {
  const std::string_view name = MaxIsaName();
  if (name.empty() || MaxIsa()) return "";
  std::string problem(kMaxIsaVariable);
  problem += " is \"" + std::string(name) + "\", expected one of";
  for (const Isa isa : kAllIsas) problem += std::string(" ") + ToString(isa);
  return problem;
}

const char* ToString(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx2Vnni:
      return "avx2vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "portable";
}

int64_t FirstCacheBytes() {
  static const int64_t bytes = [] {
    int64_t found = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    found = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
    return found > 0 ? found : int64_t{32} << 10;
  }();
  return bytes;
}

bool FetchesOneStreamFaster() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

}  // namespace xcomposer::cpu
