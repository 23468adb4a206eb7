#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_few_rows.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kMaxNumbers = int64_t{1} << 30;  // rows and columns are int on the device

// Of a block's ring. The next kernel's blocks find room beside the smallest one, and beside the one
// of a product whose blocks are no more than the multiprocessors; where all of a
// multiprocessor's weights are one block's, only more bytes in flight help, and a second block on
// the same multiprocessor would leave another one without work.
constexpr int64_t kRingBytes = 96 * 1024;
constexpr int64_t kOneWaveRingBytes = 120 * 1024;
constexpr int64_t kAloneRingBytes = 160 * 1024;
// Still to come when the next kernel is let in: 7 us of an H200's memory.
constexpr int64_t kOpenBytes = 256 * 1024;

cudaError_t CheckWeight(const WeightMatrix& weight, Format format) {
  if (weight.rows <= 0 || weight.rows > kMaxNumbers || weight.columns <= 0 ||
      weight.columns > kMaxNumbers || weight.columns % 32 != 0 ||
      weight.row_stride < weight.columns || weight.row_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Matches(weight, format)) return cudaErrorNotSupported;
  return Aligned16(weight.data) ? cudaSuccess : cudaErrorMisalignedAddress;
}

int TilesFor(int64_t rows) { return rows <= 8 ? 1 : rows <= 16 ? 2 : 4; }

int64_t WeightBytesOfStage(const FewRowsShape& shape) {
  return int64_t{2} * shape.warps_n * shape.warps_k * kFewRowsUnit * kFewRowsStep;
}

int64_t StageBytes(const FewRowsShape& shape, int tiles) {
  return WeightBytesOfStage(shape) + int64_t{2} * shape.warps_k * tiles * 8 * kFewRowsStep;
}

/// Few units: a block for each, whose warps share out K. Several: as many to a block as give every
/// multiprocessor one. Many: small blocks, several to a multiprocessor.
FewRowsShape Chosen(FewRowsShape shape, int64_t units, int64_t rows, const Context& context) {
  const int64_t each = CeilDivide(units, std::max(1, context.multiprocessors));
  const bool alone = each > 2 && each <= kFewRowsMostWarps;
  if (shape.warps_n == 0) {
    const int many = rows <= 16 ? 4 : 2;
    shape.warps_n = each <= 2 ? 1 : alone ? static_cast<int>(std::min<int64_t>(each, 8)) : many;
  }
  if (shape.warps_k == 0) {
    shape.warps_k = each <= 2 ? std::max(1, 4 / shape.warps_n) : alone && shape.warps_n > 3 ? 1 : 2;
  }
  if (shape.stages == 0) {
    const int64_t wanted = alone ? kAloneRingBytes : each <= 1 ? kOneWaveRingBytes : kRingBytes;
    const int64_t ring = std::min<int64_t>(wanted, context.block_shared_bytes);
    const int64_t fitting = ring / StageBytes(shape, TilesFor(rows));
    shape.stages = static_cast<int>(std::clamp<int64_t>(fitting, 2, kFewRowsMostStages));
  }
  return shape;
}

bool IsPossible(const FewRowsShape& shape) {
  return shape.warps_n >= 1 && shape.warps_k >= 1 &&
         shape.warps_n * shape.warps_k <= kFewRowsMostWarps && shape.stages >= 2 &&
         shape.stages <= kFewRowsMostStages;
}

cudaError_t Run(FewRowsTask task, int64_t units, Format format, const Context& context) {
  if (task.rows < 1 || task.rows > kFewRows) return cudaErrorInvalidValue;
  if (!Aligned16(task.x)) return cudaErrorMisalignedAddress;
  FewRowsShape& shape = task.shape;
  if (shape.warps_n < 0 || shape.warps_k < 0 || shape.stages < 0) return cudaErrorInvalidValue;
  shape = Chosen(shape, units, task.rows, context);
  if (!IsPossible(shape)) return cudaErrorInvalidValue;
  const int tiles = TilesFor(task.rows);
  const int warps = shape.warps_n * shape.warps_k;
  task.open = static_cast<int>(CeilDivide(kOpenBytes, WeightBytesOfStage(shape)));
  const LaunchShape launch{.grid_x = CeilDivide(units, shape.warps_n),
                           .threads = 32 * warps,
                           .shared_bytes = std::max(shape.stages * StageBytes(shape, tiles),
                                                    ArenaBytes<float>(int64_t{warps} * 2 * tiles *
                                                                      8 * FewRowsSums::kStride))};
  if (launch.shared_bytes > context.block_shared_bytes) return cudaErrorInvalidValue;
  return ForFormat(format, [&](auto number) {
    using T = decltype(number);
    switch (tiles) {
      case 1:
        return Launch(FewRowsKernel<T, 1>, launch, task, context);
      case 2:
        return Launch(FewRowsKernel<T, 2>, launch, task, context);
      default:
        return Launch(FewRowsKernel<T, 4>, launch, task, context);
    }
  });
}

cudaError_t RunLinear(const FewRowsParams& params, FewRowsResult result, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  return Run({.x = params.x,
              .weight = params.weight,
              .second = {},
              .rows = static_cast<int>(std::clamp<int64_t>(params.rows, 0, kFewRows + 1)),
              .shape = params.shape,
              .result = result,
              .y = params.y,
              .heads = {}},
             CeilDivide(params.weight.rows, kFewRowsUnit), params.format, context);
}

}  // namespace

cudaError_t LinearFewRows(const FewRowsParams& params, const Context& context) {
  return RunLinear(params, FewRowsResult::kStored, context);
}

cudaError_t LinearFewRowsToFloat(const FewRowsParams& params, const Context& context) {
  return RunLinear(params, FewRowsResult::kFloat, context);
}

cudaError_t LinearFewRowsAdd(const FewRowsParams& params, const Context& context) {
  return RunLinear(params, FewRowsResult::kAdd, context);
}

cudaError_t GateUpFewRows(const FewRowsGateUpParams& params, const Context& context) {
  for (const WeightMatrix& weight : {params.w1, params.w3}) {
    const cudaError_t status = CheckWeight(weight, params.format);
    if (status != cudaSuccess) return status;
  }
  if (params.w1.rows != params.w3.rows || params.w1.columns != params.w3.columns) {
    return cudaErrorInvalidValue;
  }
  return Run({.x = params.x,
              .weight = params.w1,
              .second = params.w3,
              .rows = static_cast<int>(std::clamp<int64_t>(params.rows, 0, kFewRows + 1)),
              .shape = params.shape,
              .result = FewRowsResult::kGateUp,
              .y = params.out,
              .heads = {}},
             CeilDivide(params.w1.rows, 16), params.format, context);
}

cudaError_t QkvFewRows(const FewRowsQkvParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.wqkv, params.format);
  if (status != cudaSuccess) return status;
  const HeadShape& heads = params.heads;
  if (heads.kv_heads <= 0 || heads.heads % heads.kv_heads != 0 || heads.head_dim <= 0 ||
      heads.head_dim % 32 != 0 ||
      params.wqkv.rows != (heads.heads + 2 * heads.kv_heads) * heads.head_dim) {
    return cudaErrorInvalidValue;
  }
  return Run({.x = params.x,
              .weight = params.wqkv,
              .second = {},
              .rows = static_cast<int>(std::clamp<int64_t>(params.rows, 0, kFewRows + 1)),
              .shape = params.shape,
              .result = FewRowsResult::kRotated,
              .y = params.q,
              .heads = heads,
              .cos = params.cos,
              .sin = params.sin,
              .slots = params.slots,
              .k_cache = params.k_cache,
              .v_cache = params.v_cache},
             params.wqkv.rows / kFewRowsUnit, params.format, context);
}

}  // namespace xcomposer::cuda
