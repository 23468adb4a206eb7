#include "bench/cuda/probe_kernels.h"
#include "kernels/cuda/device_hopper.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr uint32_t kUnlikely = 0x9E3779B9u;

template <int kLoads, bool kCopy>
__global__ void StreamKernel(StreamParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const auto* from = static_cast<const Vector16*>(p.from);
  auto* to = static_cast<Vector16*>(p.to);
  const int64_t tile = static_cast<int64_t>(BlockThreads()) * kLoads;
  uint32_t folded = 0;
  for (int64_t first = BlockX() * tile + ThreadIndex(); first < p.vectors;
       first += GridX() * tile) {
    Vector16 v[kLoads];
    XCOMPOSER_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = first + static_cast<int64_t>(i) * BlockThreads();
      v[i] = at < p.vectors ? LoadStream(from + at) : Vector16{};
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = first + static_cast<int64_t>(i) * BlockThreads();
      if (kCopy) {
        if (at < p.vectors) StoreVector(to + at, v[i]);
      } else {
        folded ^= v[i].words[0] ^ v[i].words[1] ^ v[i].words[2] ^ v[i].words[3];
      }
    }
  }
  // The loads cannot be left out, since their result might be wanted.
  if (!kCopy && folded == kUnlikely) *static_cast<uint32_t*>(p.to) = folded;
}

constexpr int kBulkWarps = 4;
constexpr int kBulkStages = 3;
constexpr int kBulkVectors = 1024;  // of 16 bytes, at a time

/// Each warp has a ring of its own.
__global__ void BulkReadKernel(StreamParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
#ifdef XCOMPOSER_WARPGROUP_PRODUCTS
  SharedArena arena;
  arena.Align(128);
  const Shared<Vector16> ring =
      arena.Take<Vector16>(kBulkWarps * kBulkStages * kBulkVectors)
          .Part(Warp() * kBulkStages * kBulkVectors, kBulkStages * kBulkVectors);
  const Shared<uint64_t> full =
      arena.Take<uint64_t>(kBulkWarps * kBulkStages).Part(Warp() * kBulkStages, kBulkStages);
  if (Lane() == 0) {
    for (int stage = 0; stage < kBulkStages; ++stage) BarrierInit(full, stage, 1);
    BarriersReady();
  }
  SyncWarp();  // the barriers are there before any lane waits for one
  const auto* from = static_cast<const Vector16*>(p.from);
  const int64_t step = static_cast<int64_t>(GridX()) * kBulkWarps * kBulkVectors;
  const int64_t begin = static_cast<int64_t>(BlockX() * kBulkWarps + Warp()) * kBulkVectors;
  const auto ask = [&](int64_t first, int stage) {
    if (first >= p.vectors || Lane() != 0) return;
    const int64_t left = p.vectors - first;
    const int bytes = 16 * (left < kBulkVectors ? static_cast<int>(left) : kBulkVectors);
    BarrierArriveExpecting(full, stage, bytes);
    CopyBulkStream(ring, stage * kBulkVectors, from + first, bytes, full, stage);
  };
  for (int stage = 0; stage < kBulkStages; ++stage) ask(begin + stage * step, stage);
  int stage = 0;
  int parity = 0;
  for (int64_t first = begin; first < p.vectors; first += step) {
    BarrierWait(full, stage, parity);
    SyncWarp();
    ask(first + kBulkStages * step, stage);
    stage = stage + 1 < kBulkStages ? stage + 1 : 0;
    if (stage == 0) parity ^= 1;
  }
#endif
}

struct NoParams {};

__global__ void NothingKernel(NoParams) {
  GridDependencyLaunch();
  GridDependencyWait();
}

__device__ uint64_t Mix(uint64_t x) {  // the finaliser of splitmix64
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__global__ void RandomKernel(RandomParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  auto* out = static_cast<Half*>(p.data);
  const int64_t step = static_cast<int64_t>(GridX()) * BlockThreads();
  // Four numbers of 16 bits: mean 2 * 65535, variance 4 * 65536^2 / 12.
  const float scale = p.deviation * 1.7320508f / 65536.0f;
  for (int64_t i = static_cast<int64_t>(BlockX()) * BlockThreads() + ThreadIndex(); i < p.count;
       i += step) {
    const uint64_t bits = Mix(p.seed ^ Mix(static_cast<uint64_t>(i)));
    const int sum = static_cast<int>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) +
                                     (bits >> 32 & 0xFFFF) + (bits >> 48));
    out[i] = FromFloat<Half>(p.mean + scale * static_cast<float>(sum - 2 * 65535));
  }
}

template <bool kCopy>
cudaError_t Stream(const StreamParams& params, const ReadShape& shape, const Context& context) {
  const LaunchShape launch{.grid_x = shape.blocks_per_multiprocessor * context.multiprocessors,
                           .threads = shape.threads};
  switch (shape.loads) {
    case 4:
      return Launch(StreamKernel<4, kCopy>, launch, params, context);
    case 8:
      return Launch(StreamKernel<8, kCopy>, launch, params, context);
    case 16:
      return Launch(StreamKernel<16, kCopy>, launch, params, context);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t ReadAll(const StreamParams& params, const ReadShape& shape, const Context& context) {
  return Stream<false>(params, shape, context);
}

cudaError_t ReadInBulk(const StreamParams& params, const Context& context) {
  if (!context.warpgroup_products) return cudaErrorNotSupported;
  return Launch(BulkReadKernel,
                {.grid_x = context.multiprocessors,
                 .threads = 32 * kBulkWarps,
                 .shared_bytes = 128 + ArenaBytes<uint64_t>(kBulkWarps * kBulkStages) +
                                 16 * kBulkWarps * kBulkStages * kBulkVectors},
                params, context);
}

cudaError_t CopyAll(const StreamParams& params, const ReadShape& shape, const Context& context) {
  return Stream<true>(params, shape, context);
}

cudaError_t Nothing(const Context& context) {
  return Launch(NothingKernel, {.threads = 32}, NoParams{}, context);
}

cudaError_t FillRandom(const RandomParams& params, const Context& context) {
  return Launch(RandomKernel, {.grid_x = 8 * context.multiprocessors, .threads = 256}, params,
                context);
}

}  // namespace xcomposer::cuda
