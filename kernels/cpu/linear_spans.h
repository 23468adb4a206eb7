#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {

/// A kernel for few rows of x, where memory is what counts: threads share a quantised weight by
/// ranges of outputs and, by args.span, by spans of inputs, so that each finds enough to do and
/// still reads long runs.
struct SpanKernel {
  void (*run)(const LinearKernelArgs&, const LinearBlock&, int64_t span, const RowSums&) = nullptr;
  int64_t most_range = 0;   ///< outputs that a thread takes at a time ...
  int64_t least_range = 0;  ///< ... and even where other threads would find nothing
  int64_t grain = 0;        ///< what ranges are multiples of
};

/// Floats that RunSpans needs.
int64_t SpanSums(const LinearKernelArgs& args);

struct SpanProduct {
  LinearKernelArgs args;
  float* sums = nullptr;  ///< SpanSums floats
};

/// All of y of each product; they have rows, depth and span in common. The results do not depend on
/// the ranges.
void RunSpans(const SpanKernel& kernel, std::span<const SpanProduct> products, ThreadPool& pool,
              const IsaKernels& kernels);

/// Few rows of float32 x (packed_rows.h) with a quantised weight.
void LinearFewPacked(const PackedMatrix& matrix, const std::optional<StoredVector>& bias,
                     LinearKernelArgs args, ThreadPool& pool, const IsaKernels& kernels);

}  // namespace xcomposer::cpu
