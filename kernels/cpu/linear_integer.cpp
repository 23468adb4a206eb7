#include "kernels/cpu/linear_integer.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/round_up.h"

namespace xcomposer::cpu {
namespace {

// Rows of x in one task: their codes for some inputs then stay in the second cache.
constexpr int64_t kBlockRows = 256;
// Outputs of one task.
constexpr int64_t kTaskOutputs = 256;
// Numbers of x that are rounded in one task: five to ten microseconds, where to hand a loop to
// another thread takes one.
constexpr int64_t kRoundedNumbers = 16384;
// Words that a thread takes at a time with few rows of x: what another may have to wait for.
constexpr int64_t kFewWords = 16384;
// Codes of a row of x may be filled up to a multiple of so many inputs.
constexpr int64_t kWholeInputs = 64;

/// Sizes of the rounded rows of one turn, in dwords and floats.
struct RoundedSizes {
  RoundedSizes(const RoundingKernel& x, int64_t depth, int64_t rows) {
    codes = rows * RoundUp(depth, kWholeInputs) / x.dword_codes;
    scales = rows * DivideUp(depth, x.block);
  }
  int64_t codes = 0;
  int64_t scales = 0;
};

bool TakesTiles(const PackedMatrix& matrix, int64_t rows, const IsaKernels& kernels) {
  const IntegerKernel& tiles = kernels.special.int8;
  return tiles.multiply != nullptr && matrix.packing == Packing::kInt8 && rows > tiles.few_rows;
}

/// The rows of each of `products`, which have depth and count of panels in common.
void Round(const RoundingKernel& kernel, std::span<const LinearKernelArgs> products,
           ThreadPool& pool) {
  const LinearKernelArgs& common = products.front();
  const int64_t panels = DivideUp(common.rows, common.panel_rows);
  const int64_t step = RoundUp(DivideUp(kRoundedNumbers, common.panel_rows), kIntegerDepth);
  const int64_t steps = DivideUp(common.depth, step);
  const auto count = static_cast<int64_t>(products.size());
  pool.ParallelFor(count * panels * steps, 1, [&](int64_t task, int64_t, int) {
    const int64_t k = task % steps * step;
    const LinearKernelArgs& args = products[static_cast<size_t>(task / steps % count)];
    kernel.round(args, task / steps / count, k, std::min(args.depth, k + step));
  });
}

/// Rows args.x on, args.rows of them.
void RunTurn(const IntegerKernel& kernel, const LinearKernelArgs& args, ThreadPool& pool) {
  Round(kernel.x, {&args, 1}, pool);
  const EqualBlocks blocks(args.rows, kBlockRows, args.panel_rows);
  const int64_t task_outputs = RoundUp(kTaskOutputs, std::lcm(kernel.columns, kPanelOutputs));
  const int64_t tasks = DivideUp(args.outputs, task_outputs) * blocks.count;
  pool.ParallelFor(tasks, 1, [&](int64_t begin, int64_t end, int worker) {
    float* scratch = pool.WorkerScratch(worker, kernel.scratch + blocks.rows * task_outputs);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task % blocks.count * blocks.rows;
      const int64_t n = task / blocks.count * task_outputs;
      kernel.multiply(args,
                      {.row_begin = row,
                       .row_end = std::min(args.rows, row + blocks.rows),
                       .n_begin = n,
                       .n_end = std::min(args.outputs, n + task_outputs)},
                      scratch);
    }
  });
}

/// Panels of equal height, so that the last one is not a crumb.
void SetPanels(LinearKernelArgs& args, int64_t rows, const IntegerKernel& kernel) {
  const int64_t panels = DivideUp(rows, kernel.rows);
  args.panel_rows = kernel.equal_panels ? DivideUp(rows, panels) : kernel.rows;
  args.packed_rows = panels * args.panel_rows;
}

int64_t BiasFloats(const IntegerProduct& product) {
  return product.bias ? RoundUp(product.args.outputs, 16) : 0;
}

void WidenBias(const std::optional<StoredVector>& bias, LinearKernelArgs& args, float* scratch,
               const IsaKernels& kernels) {
  if (!bias) return;
  Widen(*bias, scratch, kernels);
  args.bias = scratch;
}

/// `scratch`: sizes.codes + 2 * sizes.scales floats.
void SetRounded(LinearKernelArgs& args, const RoundedSizes& sizes, float* scratch) {
  args.x_codes = reinterpret_cast<uint32_t*>(scratch);
  args.x_scales = scratch + sizes.codes;
  args.x_sums = reinterpret_cast<int32_t*>(args.x_scales + sizes.scales);
}

}  // namespace

bool TakesFewRows(const IntegerProduct& product, const IsaKernels& kernels) {
  const PackedMatrix& matrix = product.matrix;
  const int64_t rows = product.args.rows;
  return !TakesTiles(matrix, rows, kernels) &&
         rows <= kernels.integers[IntegerIndex(matrix.packing)].few.few_rows;
}

void LinearInteger(const IntegerProduct& product, ThreadPool& pool, const IsaKernels& kernels) {
  if (TakesFewRows(product, kernels)) return LinearFewIntegers({&product, 1}, pool, kernels);
  LinearKernelArgs args = product.args;
  const int64_t rows = args.rows;
  const int64_t most_rows =
      std::max<int64_t>(kBlockRows, kTurnInputs / std::max<int64_t>(1, args.depth));
  const int64_t turns = DivideUp(rows, most_rows);
  const int64_t turn_rows = DivideUp(rows, turns);
  const IntegerKernel& kernel = TakesTiles(product.matrix, rows, kernels)
                                    ? kernels.special.int8
                                    : kernels.integers[IntegerIndex(product.matrix.packing)].many;
  SetPanels(args, turn_rows, kernel);
  const RoundedSizes sizes(kernel.x, args.depth, args.packed_rows);
  const int64_t bias_floats = BiasFloats(product);
  float* scratch = pool.SharedScratch(bias_floats + sizes.codes + 2 * sizes.scales + 1);
  WidenBias(product.bias, args, scratch, kernels);
  SetRounded(args, sizes, scratch + bias_floats);
  const float* x = args.x;
  float* y = args.y;
  for (int64_t row = 0; row < rows; row += turn_rows) {
    args.x = x + row * args.x_stride;
    args.y = y + row * args.y_stride;
    args.rows = std::min(turn_rows, rows - row);
    RunTurn(kernel, args, pool);
  }
}

void LinearFewIntegers(std::span<const IntegerProduct> products, ThreadPool& pool,
                       const IsaKernels& kernels) {
  const Packing packing = products.front().matrix.packing;
  const IntegerRowsKernel& kernel = kernels.integers[IntegerIndex(packing)].few;
  const RoundingKernel& rounding = kernels.integers[IntegerIndex(packing)].many.x;
  const LinearKernelArgs& common = products.front().args;
  const int64_t turns = DivideUp(common.rows, kernel.rows);
  const int64_t turn_rows = DivideUp(common.rows, turns);
  const RoundedSizes sizes(rounding, common.depth, turn_rows);
  const int64_t turn_floats = RoundUp(sizes.codes + 2 * sizes.scales, 16);
  int64_t floats = turns * turn_floats;
  int64_t outputs = 0;
  for (const IntegerProduct& product : products) {
    floats += BiasFloats(product);
    outputs += product.args.outputs;
  }
  float* scratch = pool.SharedScratch(floats);
  float* bias = scratch + turns * turn_floats;
  std::vector<LinearKernelArgs> all;  // (product, turn)
  for (const IntegerProduct& product : products) {
    LinearKernelArgs args = product.args;
    WidenBias(product.bias, args, bias, kernels);
    bias += BiasFloats(product);
    for (int64_t turn = 0; turn < turns; ++turn) {
      args.rows = std::min(turn_rows, product.args.rows - turn * turn_rows);
      args.panel_rows = args.packed_rows = args.rows;
      args.x = product.args.x + turn * turn_rows * args.x_stride;
      args.y = product.args.y + turn * turn_rows * args.y_stride;
      SetRounded(args, sizes, scratch + turn * turn_floats);
      all.push_back(args);
    }
  }
  Round(rounding, std::span(all).first(static_cast<size_t>(turns)), pool);
  const int64_t panel_words = common.depth / InputsOfWord(packing) * kPanelOutputs;
  const int64_t grain = DivideUp(kFewWords, panel_words);
  pool.ParallelRuns(outputs / kPanelOutputs, grain, [&](int64_t begin, int64_t end, int) {
    // Of the panels of all products, one after the other.
    int64_t first = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const int64_t panels = all[i].outputs / kPanelOutputs;
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, first + panels) - first;
      if (from < to) kernel.multiply(all[i], from * kPanelOutputs, to * kPanelOutputs);
      if ((i + 1) % static_cast<size_t>(turns) == 0) first += panels;
    }
  });
}

}  // namespace xcomposer::cpu
