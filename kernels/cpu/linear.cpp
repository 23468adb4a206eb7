#include "kernels/cpu/linear.h"

#include <algorithm>
#include <span>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear_integer.h"
#include "kernels/cpu/linear_spans.h"
#include "kernels/cpu/round_up.h"

namespace xcomposer::cpu {
namespace {

// Rows of x in one task: its share of x then fits into the second cache, piece by piece.
constexpr int64_t kBlockRows = 256;
// Weights that a thread takes at a time while streaming: long enough to be read at full speed, and
// as many as leave each thread enough turns to share evenly.
constexpr int64_t kLeastStreamed = 128 * 1024;
constexpr int64_t kMostStreamed = 512 * 1024;
constexpr int64_t kStreamedTurns = 16;
// Numbers of x that are packed in one task: less is not worth another thread.
constexpr int64_t kPackedNumbers = 32 * 1024;
// Rows of x that are packed in one task, where it is many.
constexpr int64_t kPackedRows = 32;
// Outputs that share a loop, in every kernel.
constexpr int64_t kGrain = 24;

/// The inner kernels for one weight, and what they need to know of it.
struct Weight {
  void (*rows)(const LinearKernelArgs&, int64_t, int64_t) = nullptr;
  const PanelKernel* panels = nullptr;
  void (*pack)(const LinearKernelArgs&, int64_t, int64_t) = nullptr;  ///< x for `rows`, if at all
  int64_t (*piece)(int64_t) = nullptr;  ///< inputs that it packs at a time
  LinearKernelArgs args = {};
};

/// The special kernel where it takes a weight of so many inputs, in rows so far apart.
const PanelKernel& PanelsFor(const PanelKernel& special, const PanelKernel& others, int64_t depth,
                             int64_t stride) {
  const bool takes_it = special.multiply != nullptr && depth >= special.least_depth &&
                        depth % special.depth_grain == 0 && stride % special.depth_grain == 0;
  return takes_it ? special : others;
}

const PanelKernel& PanelsFor(const StoredMatrix& matrix, const IsaKernels& kernels) {
  const PanelKernel& others = kernels.linear_panels[static_cast<size_t>(matrix.format)];
  if (matrix.format != Format::kBfloat16) return others;
  return PanelsFor(kernels.special.bfloat16, others, matrix.columns, matrix.row_stride);
}

const PanelKernel& PanelsFor(const Bf12Matrix& matrix, const IsaKernels& kernels) {
  return PanelsFor(kernels.special.bf12, kernels.bf12.panels, matrix.columns, matrix.columns);
}

Weight WeightOf(const StoredMatrix& matrix, const IsaKernels& kernels) {
  const auto format = static_cast<size_t>(matrix.format);
  Weight weight{.rows = kernels.linear_rows[format], .panels = &PanelsFor(matrix, kernels)};
  weight.pack = kernels.linear_pack_pieces[format];
  weight.piece = kernels.row_piece;
  weight.args.weight = matrix.data;
  weight.args.weight_stride = matrix.row_stride;
  weight.args.outputs = matrix.rows;
  weight.args.depth = matrix.columns;
  weight.args.one_stream_x = FetchesOneStreamFaster() ? 2 * FirstCacheBytes() / 3 : 0;
  return weight;
}

Weight WeightOf(const Bf12Matrix& matrix, const IsaKernels& kernels) {
  Weight weight{.rows = kernels.bf12.rows, .panels = &PanelsFor(matrix, kernels)};
  weight.pack = kernels.bf12.pack_x;
  weight.piece = [](int64_t) { return kBf12Block; };
  weight.args.weight = matrix.words;
  weight.args.scales = matrix.scales;
  weight.args.outliers = matrix.outliers;
  weight.args.outputs = matrix.rows;
  weight.args.depth = matrix.columns;
  return weight;
}

Weight WeightOf(const PackedMatrix& matrix, const IsaKernels& kernels) {
  Weight weight;
  if (!TakesIntegers(matrix.packing)) {
    weight.panels = &kernels.packed_panels[static_cast<size_t>(matrix.packing)];
  }
  weight.args.weight = matrix.words;
  weight.args.zeros = matrix.zeros;
  weight.args.scales = matrix.scales;
  weight.args.group = matrix.group;
  weight.args.outputs = matrix.rows;
  weight.args.depth = matrix.columns;
  return weight;
}

/// Few rows: stream the weights, which have rows and depth in common.
void Stream(const Weight& kernel, std::span<const LinearKernelArgs> products, ThreadPool& pool) {
  const LinearKernelArgs& common = products.front();
  if (kernel.pack != nullptr) {
    const int64_t piece = kernel.piece(common.rows);
    pool.ParallelFor(DivideUp(common.depth, piece), kPackedNumbers / (common.rows * piece) + 1,
                     [&](int64_t begin, int64_t end, int) { kernel.pack(common, begin, end); });
  }
  int64_t outputs = 0;
  for (const LinearKernelArgs& args : products) outputs += args.outputs;
  const int64_t turn = std::clamp(outputs * common.depth / (kStreamedTurns * pool.threads()),
                                  kLeastStreamed, kMostStreamed);
  const int64_t grain = RoundUp(std::max<int64_t>(1, turn / common.depth), kGrain);
  int64_t tasks = 0;
  for (const LinearKernelArgs& args : products) tasks += DivideUp(args.outputs, grain);
  pool.ParallelFor(tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t left = task;
      const LinearKernelArgs* args = products.data();
      while (left >= DivideUp(args->outputs, grain)) left -= DivideUp((args++)->outputs, grain);
      kernel.rows(*args, left * grain, std::min(args->outputs, (left + 1) * grain));
    }
  });
}

/// Many rows: pack `args.rows` rows of x, then work on blocks.
void Multiply(const PanelKernel& kernel, const LinearKernelArgs& args, ThreadPool& pool) {
  const int64_t panels = DivideUp(args.rows, kernel.rows);
  const int64_t packed_panels = std::max<int64_t>(1, kPackedRows / kernel.rows);
  pool.ParallelFor(panels, packed_panels,
                   [&](int64_t begin, int64_t end, int) { kernel.pack_x(args, begin, end); });

  const EqualBlocks blocks(args.rows, kBlockRows, kernel.rows);
  const int64_t columns = DivideUp(args.outputs, kernel.columns);
  // Wide tasks read x less often; but there must be enough of them for the threads to share evenly.
  int64_t task_columns = 6;
  while (task_columns > 1 &&
         DivideUp(columns, task_columns) * blocks.count < int64_t{6} * pool.threads()) {
    --task_columns;
  }
  const int64_t column_blocks = DivideUp(columns, task_columns);
  pool.ParallelFor(column_blocks * blocks.count, 1, [&](int64_t begin, int64_t end, int worker) {
    float* scratch =
        pool.WorkerScratch(worker, kernel.scratch + blocks.rows * task_columns * kernel.columns);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row_begin = task % blocks.count * blocks.rows;
      const int64_t n_begin = task / blocks.count * task_columns * kernel.columns;
      const LinearBlock block{
          .row_begin = row_begin,
          .row_end = std::min(args.rows, row_begin + blocks.rows),
          .n_begin = n_begin,
          .n_end = std::min(args.outputs, n_begin + task_columns * kernel.columns)};
      kernel.multiply(args, block, scratch);
    }
  });
}

/// K = 0: the product is zero.
void FillWithBias(const LinearKernelArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    for (int64_t n = 0; n < args.outputs; ++n) {
      float& y = args.y[row * args.y_stride + n];
      y = (args.accumulate ? y : 0.0f) + (args.bias != nullptr ? args.bias[n] : 0.0f);
    }
  }
}

/// Of x for so many rows of it.
int64_t PackedFloats(const LinearKernelArgs& args, int64_t rows, int64_t bytes) {
  const int64_t depth = RoundUp(args.depth, 32);  // whole pairs of vectors
  return DivideUp(rows * depth * bytes, 4) + 1;
}

LinearKernelArgs ArgumentsOf(const LinearParams& params, const Weight& weight) {
  LinearKernelArgs args = weight.args;
  args.x = params.x;
  args.x_stride = params.x_stride;
  args.rows = params.rows;
  args.y = params.y;
  args.y_stride = params.y_stride;
  args.accumulate = params.accumulate;
  args.scale = params.scale;
  return args;
}

Weight WeightOf(const LinearParams& params, const IsaKernels& kernels) {
  return std::visit([&](const auto& matrix) { return WeightOf(matrix, kernels); }, params.weight);
}

/// The weight where its products are of integers.
const PackedMatrix* IntegersOf(const LinearParams& params) {
  const auto* packed = std::get_if<PackedMatrix>(&params.weight);
  return packed != nullptr && TakesIntegers(packed->packing) ? packed : nullptr;
}

/// Both as products of integers in one loop, if that can be.
bool FewIntegers(const LinearParams& first, const LinearParams& second, ThreadPool& pool,
                 const IsaKernels& kernels) {
  const PackedMatrix* matrices[] = {IntegersOf(first), IntegersOf(second)};
  if (matrices[0] == nullptr || matrices[1] == nullptr) return false;
  const IntegerProduct products[] = {
      {*matrices[0], first.bias, ArgumentsOf(first, WeightOf(*matrices[0], kernels))},
      {*matrices[1], second.bias, ArgumentsOf(second, WeightOf(*matrices[1], kernels))}};
  for (const IntegerProduct& product : products) {
    if (product.args.rows <= 0 || product.args.outputs <= 0 || product.args.depth <= 0 ||
        !TakesFewRows(product, kernels) || product.matrix.packing != matrices[0]->packing ||
        product.args.depth != products[0].args.depth) {
      return false;
    }
  }
  LinearFewIntegers(products, pool, kernels);
  return true;
}

/// Both as they are stored in one loop, if that can be.
bool FewDense(const LinearParams& first, const LinearParams& second, ThreadPool& pool,
              const IsaKernels& kernels) {
  const Weight weight = WeightOf(first, kernels);
  const Weight other = WeightOf(second, kernels);
  if (weight.pack == nullptr || weight.rows != other.rows) return false;
  LinearKernelArgs args[] = {ArgumentsOf(first, weight), ArgumentsOf(second, other)};
  const LinearKernelArgs& common = args[0];
  if (first.bias || second.bias || common.rows <= 0 || common.depth <= 0 ||
      args[1].depth != common.depth || common.rows > weight.panels->few_rows) {
    return false;
  }
  float* packed_x = pool.SharedScratch(PackedFloats(common, common.rows, SizeOf(Format::kFloat32)));
  for (LinearKernelArgs& one : args) one.packed_x = packed_x;
  Stream(weight, args, pool);
  return true;
}

}  // namespace

void Linear(const LinearParams& params, const Context& context) {
  Linear(params, context.pool, KernelsFor(context.isa, context.activations));
}

void LinearPair(const LinearParams& first, const LinearParams& second, const Context& context) {
  LinearPair(first, second, context.pool, KernelsFor(context.isa, context.activations));
}

void LinearPair(const LinearParams& first, const LinearParams& second, ThreadPool& pool,
                const IsaKernels& kernels) {
  const bool same_x =
      first.x == second.x && first.x_stride == second.x_stride && first.rows == second.rows;
  if (same_x && FewIntegers(first, second, pool, kernels)) return;
  if (same_x && FewDense(first, second, pool, kernels)) return;
  Linear(first, pool, kernels);
  Linear(second, pool, kernels);
}

void Linear(const LinearParams& params, ThreadPool& pool, const IsaKernels& kernels) {
  const Weight weight = WeightOf(params, kernels);
  LinearKernelArgs args = ArgumentsOf(params, weight);
  if (args.rows <= 0 || args.outputs <= 0) return;
  const int64_t bias_floats = params.bias ? RoundUp(args.outputs, 16) : 0;
  if (args.depth <= 0) {
    if (params.bias) {
      float* bias = pool.SharedScratch(bias_floats);
      Widen(*params.bias, bias, kernels);
      args.bias = bias;
    }
    return FillWithBias(args);
  }
  if (const PackedMatrix* integers = IntegersOf(params)) {
    return LinearInteger({*integers, params.bias, args}, pool, kernels);
  }

  const auto* packed = std::get_if<PackedMatrix>(&params.weight);
  const PanelKernel& panels = *weight.panels;
  const bool stream = args.rows <= panels.few_rows;
  if (packed != nullptr && stream) {
    return LinearFewPacked(*packed, params.bias, args, pool, kernels);
  }
  const int64_t most_rows =
      std::max<int64_t>(kBlockRows, kPackedFloats / std::max<int64_t>(1, args.depth));
  const int64_t packed_rows =
      stream ? args.rows : RoundUp(std::min(args.rows, most_rows), panels.rows);
  const int64_t x_bytes = stream ? SizeOf(Format::kFloat32) : panels.x_bytes;
  float* scratch = pool.SharedScratch(bias_floats + PackedFloats(args, packed_rows, x_bytes));
  if (params.bias) {
    Widen(*params.bias, scratch, kernels);
    args.bias = scratch;
  }
  args.packed_x = scratch + bias_floats;
  if (stream) return Stream(weight, {&args, 1}, pool);
  // Turns of equal size, so that the last one is not a crumb.
  const int64_t turns = DivideUp(params.rows, most_rows);
  const int64_t turn_rows = RoundUp(DivideUp(params.rows, turns), panels.rows);
  for (int64_t row = 0; row < params.rows; row += turn_rows) {
    args.x = params.x + row * params.x_stride;
    args.y = params.y + row * params.y_stride;
    args.rows = std::min(turn_rows, params.rows - row);
    args.packed_rows = RoundUp(args.rows, panels.rows);
    Multiply(panels, args, pool);
  }
}

}  // namespace xcomposer::cpu
