#pragma once

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/bfloat_pairs_table.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/guarded.h"
#include "support/emulated_pairs.h"
#include "support/emulated_vnni.h"

namespace xcomposer::cpu {

struct Kernels {
  std::string name;
  const IsaKernels* kernels = nullptr;
  bool rounds = false;  ///< activations to bfloat16, where there are many rows of them

  /// What a number counts as.
  float Counted(float x) const { return rounds ? EmulatedPairs::Rounded(x) : x; }
};

inline void PrintTo(const Kernels& kernels, std::ostream* out) { *out << kernels.name; }

/// Portable kernels with emulated pairs of bfloat16.
inline const IsaKernels& EmulatedPairKernels() {
  static const IsaKernels emulated = [] {
    IsaKernels kernels = KernelsFor(Isa::kPortable);
    const PairKernels& pairs = kPairKernels<Portable, EmulatedPairs>;
    kernels.special.bfloat16 = pairs.dense;
    kernels.special.bf12 = pairs.bf12;
    std::ranges::copy(pairs.packed, kernels.packed_panels);
    std::ranges::copy(pairs.attention, kernels.attention);
    return kernels;
  }();
  return emulated;
}

#if defined(__x86_64__)
/// AVX2's kernels with emulated products of bytes.
inline const IsaKernels& EmulatedVnniKernels() {
  static const IsaKernels emulated = [] {
    IsaKernels kernels = KernelsFor(Isa::kAvx2);
    std::ranges::copy(kEmulatedVnni, kernels.integers);
    return kernels;
  }();
  return emulated;
}
#endif

/// All that this machine can run, and pairs of bfloat16 emulated.
inline std::vector<Kernels> AllKernels() {
  std::vector<Kernels> all = {{"emulated_pairs", &EmulatedPairKernels(), true}};
  for (const Isa isa : RunnableIsas()) {
    all.push_back({ToString(isa), &KernelsFor(isa)});
    if (!HasBfloatProducts(isa)) continue;
    all.push_back(
        {std::string(ToString(isa)) + "_rounding", &KernelsFor(isa, Activations::kBfloat16), true});
  }
  return all;
}

}  // namespace xcomposer::cpu
