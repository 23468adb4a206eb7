#include "kernels/cpu/isa_kernels.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace xcomposer::cpu {

extern const IsaKernels kPortableKernels;
#if defined(__x86_64__)
extern const IsaKernels kAvx2Kernels;
extern const IntegerKernels kAvx2VnniIntegers[2];
extern const IsaKernels kAvx512Kernels;
extern const IsaKernels kAvx512VnniKernels;
extern const IntegerKernels kPairs8;
extern const PairKernels kAvx512PairKernels;
extern const SpecialKernels kAmxTiles;
extern const SpecialKernels kAmxRoundingTiles;
#endif

namespace {

#if defined(__x86_64__)
const IsaKernels& Avx2VnniKernels() {
  static const IsaKernels kernels = [] {
    IsaKernels with_bytes = kAvx2Kernels;
    std::ranges::copy(kAvx2VnniIntegers, with_bytes.integers);
    return with_bytes;
  }();
  return kernels;
}

/// Activations rounded where bfloat16 weights are not concerned.
IsaKernels WithPairs(IsaKernels kernels) {
  std::ranges::copy(kAvx512PairKernels.packed, kernels.packed_panels);
  std::ranges::copy(kAvx512PairKernels.attention, kernels.attention);
  return kernels;
}

/// Activations rounded to bfloat16, for many rows of them.
const IsaKernels& RoundingPairKernels() {
  static const IsaKernels kernels = [] {
    IsaKernels with_pairs = WithPairs(kAvx512VnniKernels);
    with_pairs.special.bfloat16 = kAvx512PairKernels.dense;
    with_pairs.special.bf12 = kAvx512PairKernels.bf12;
    return with_pairs;
  }();
  return kernels;
}

/// Few rows, and weights that tiles have nothing for, stay with AVX-512; those of 8 bits with codes
/// of x as the tiles have them, so that a row's bits do not depend on how many there are.
IsaKernels WithTiles(const SpecialKernels& tiles) {
  IsaKernels with_tiles = kAvx512VnniKernels;
  with_tiles.integers[IntegerIndex(Packing::kInt8)] = kPairs8;
  with_tiles.special = tiles;
  return with_tiles;
}

const IsaKernels& AmxKernels() {
  static const IsaKernels kernels = WithTiles(kAmxTiles);
  return kernels;
}

const IsaKernels& RoundingAmxKernels() {
  static const IsaKernels kernels = WithPairs(WithTiles(kAmxRoundingTiles));
  return kernels;
}
#endif

}  // namespace

const IsaKernels& KernelsFor(Isa isa, Activations activations) {
#if defined(__x86_64__)
  const bool rounds = activations == Activations::kBfloat16;
  if (isa == Isa::kAmx) return rounds ? RoundingAmxKernels() : AmxKernels();
  if (isa == Isa::kAvx512Bf16) return rounds ? RoundingPairKernels() : kAvx512VnniKernels;
  if (isa == Isa::kAvx512Vnni) return kAvx512VnniKernels;
  if (isa == Isa::kAvx512) return kAvx512Kernels;
  if (isa == Isa::kAvx2Vnni) return Avx2VnniKernels();
  if (isa == Isa::kAvx2) return kAvx2Kernels;
#endif
  static_cast<void>(isa);
  static_cast<void>(activations);
  return kPortableKernels;
}

void Widen(const StoredVector& stored, float* out, const IsaKernels& kernels) {
  kernels.widen[static_cast<size_t>(stored.format)](stored.data, out, stored.size);
}

PanelSizes LargestPanels(Isa isa) {
  PanelSizes sizes{.few_rows = std::numeric_limits<int64_t>::max(), .rows = 1};
  const auto add = [&sizes](const PanelKernel& panels) {
    if (panels.multiply == nullptr) return;
    sizes.few_rows = std::min(sizes.few_rows, panels.few_rows);
    sizes.rows = std::lcm(sizes.rows, panels.rows);
    sizes.columns = std::max(sizes.columns, panels.columns);
    sizes.scratch = std::max(sizes.scratch, panels.scratch);
    sizes.x_bytes = std::max(sizes.x_bytes, panels.x_bytes);
  };
  for (const Activations activations : {Activations::kFloat32, Activations::kBfloat16}) {
    const IsaKernels& kernels = KernelsFor(isa, activations);
    for (const PanelKernel& panels : kernels.linear_panels) add(panels);
    for (const PanelKernel& panels : kernels.packed_panels) add(panels);
    add(kernels.bf12.panels);
    add(kernels.special.bfloat16);
    add(kernels.special.bf12);
  }
  return sizes;
}

}  // namespace xcomposer::cpu
