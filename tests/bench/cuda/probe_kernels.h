#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"

// Kernels that measure the machine, not the model.
namespace xcomposer::cuda {

/// How a read is shared out.
struct ReadShape {
  int loads = 8;  ///< of 16 bytes in flight per thread: 4, 8 or 16
  int threads = 512;
  int blocks_per_multiprocessor = 2;
};

struct StreamParams {
  const void* from = nullptr;
  void* to = nullptr;   ///< of copies; of reads one word that is practically never written
  int64_t vectors = 0;  ///< of 16 bytes
};

/// Reads everything once and keeps nothing.
cudaError_t ReadAll(const StreamParams& params, const ReadShape& shape, const Context& context);
/// The same by copies in bulk to shared memory, 192 KiB of each multiprocessor under way; not where
/// the context has no warpgroup_products.
cudaError_t ReadInBulk(const StreamParams& params, const Context& context);
/// Copies everything.
cudaError_t CopyAll(const StreamParams& params, const ReadShape& shape, const Context& context);

/// A kernel of one block that does nothing but take part in programmatic launch.
cudaError_t Nothing(const Context& context);

struct RandomParams {
  void* data = nullptr;  ///< (count) float16
  int64_t count = 0;
  uint64_t seed = 0;
  float mean = 0.0f;
  float deviation = 1.0f;
};

/// About normal: sums of four uniform numbers.
cudaError_t FillRandom(const RandomParams& params, const Context& context);

}  // namespace xcomposer::cuda
