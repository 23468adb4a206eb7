#include "kernels/cpu/linear_spans.h"

#include <algorithm>

#include "kernels/cpu/round_up.h"

namespace xcomposer::cpu {
namespace {

// Whole rows of words where that can be, whose sums stay in the second cache. AWQ's rows are short,
// so that the inputs are cut more finely.
constexpr int64_t kGptqRange = 16384;
constexpr int64_t kGptqSpan = 1024;
constexpr int64_t kAwqRange = 16384;
constexpr int64_t kAwqSpan = 512;
// Rows of x that share a loop.
constexpr int64_t kRowsTogether = 4;
// At least so many tasks for each thread, for one that is held up to be helped.
constexpr int64_t kThreadTasks = 2;

// Sums that are added up in one task: fewer take no longer than to ask another thread.
constexpr int64_t kFinishedSums = 32 * 1024;
constexpr int64_t kFinishedGrain = 16;

/// Between the sums of two rows: kernels write whole vectors.
int64_t SumsStride(const LinearKernelArgs& args) { return RoundUp(args.outputs, 16); }

}  // namespace

int64_t SpanSums(const LinearKernelArgs& args) {
  return args.rows * SumsStride(args) * DivideUp(args.depth, args.span);
}

void RunSpans(const SpanKernel& kernel, std::span<const SpanProduct> products, ThreadPool& pool,
              const IsaKernels& kernels) {
  const LinearKernelArgs& common = products.front().args;
  const int64_t spans = DivideUp(common.depth, common.span);
  const int64_t least_ranges =
      DivideUp(kThreadTasks * pool.threads(), spans * static_cast<int64_t>(products.size()));
  int64_t outputs = 0;  // of the widest
  for (const SpanProduct& product : products) outputs = std::max(outputs, product.args.outputs);
  const int64_t ranges = std::max(DivideUp(outputs, kernel.most_range), least_ranges);
  const int64_t range =
      RoundUp(std::max(kernel.least_range, DivideUp(outputs, ranges)), kernel.grain);
  const int64_t tasks = ranges * spans;
  const int64_t all = tasks * static_cast<int64_t>(products.size());
  pool.ParallelFor(all, 1, [&](int64_t begin, int64_t end, int worker) {
    float* partial = pool.WorkerScratch(worker, common.rows * range);
    for (int64_t i = begin; i < end; ++i) {
      const auto& [args, sums] = products[static_cast<size_t>(i / tasks)];
      const int64_t task = i % tasks;
      const int64_t n = task % ranges * range;
      if (n >= args.outputs) continue;
      const int64_t span = task / ranges;
      const int64_t stride = SumsStride(args);
      const LinearBlock block{.row_begin = 0,
                              .row_end = args.rows,
                              .n_begin = n,
                              .n_end = std::min(args.outputs, n + range)};
      kernel.run(args, block, span,
                 {.sums = sums + span * args.rows * stride + n,
                  .stride = stride,
                  .partial_sums = partial,
                  .partial_stride = range});
    }
  });
  const int64_t finished = RoundUp(DivideUp(kFinishedSums, spans * common.rows), kFinishedGrain);
  for (const auto& [args, sums] : products) {
    pool.ParallelFor(args.outputs, finished, [&](int64_t begin, int64_t end, int) {
      kernels.finish_spans(args, sums, SumsStride(args), begin, end);
    });
  }
}

void LinearFewPacked(const PackedMatrix& matrix, const std::optional<StoredVector>& bias,
                     LinearKernelArgs args, ThreadPool& pool, const IsaKernels& kernels) {
  const auto packing = static_cast<size_t>(matrix.packing);
  const bool awq = matrix.packing == Packing::kAwq4;
  // Whole groups, so that a zero is taken away once.
  args.span = std::max<int64_t>(1, (awq ? kAwqSpan : kGptqSpan) / args.group) * args.group;
  const int64_t bias_floats = bias ? RoundUp(args.outputs, 16) : 0;
  const int64_t x_floats = awq ? 0 : args.rows * args.depth;
  float* scratch = pool.SharedScratch(bias_floats + x_floats + SpanSums(args) + 1);
  if (bias) {
    Widen(*bias, scratch, kernels);
    args.bias = scratch;
  }
  args.packed_x = scratch + bias_floats;
  if (!awq) kernels.pack_places[packing](args, 0, args.rows);
  const int64_t loops = DivideUp(args.rows, kRowsTogether);
  const SpanProduct product{.args = args, .sums = scratch + bias_floats + x_floats};
  RunSpans({.run = kernels.packed_rows[packing],
            .most_range = (awq ? kAwqRange : kGptqRange) / loops,
            .least_range = kPackedGrain,
            .grain = kPackedGrain},
           {&product, 1}, pool, kernels);
}

}  // namespace xcomposer::cpu
