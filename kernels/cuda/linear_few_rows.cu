#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_few_rows.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kMaxNumbers = int64_t{1} << 30;  // rows and columns are int on the device

// Of a block. The ring fits into the 99 KiB of the smallest device, and twice into 228 KiB.
constexpr int64_t kRingBytes = 96 * 1024;
// Asked into L2 behind the ring: 2 us of an H200's memory.
constexpr int64_t kAheadBytes = 64 * 1024;
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

int TilesFor(int rows) { return rows <= 8 ? 1 : rows <= 16 ? 2 : 4; }

int64_t WeightBytesOfStage(const FewRowsShape& shape) {
  return int64_t{2} * shape.warps_n * shape.warps_k * kFewRowsUnit * kFewRowsStep;
}

int64_t StageBytes(const FewRowsShape& shape, int tiles) {
  return WeightBytesOfStage(shape) + int64_t{2} * shape.warps_k * tiles * 8 * kFewRowsStep;
}

/// Few units: a block for each, whose warps share out K. Many: as many units to a block as give
/// every multiprocessor the same.
FewRowsShape Chosen(FewRowsShape shape, int64_t units, int64_t columns, int tiles,
                    const Context& context) {
  const int64_t each = CeilDivide(units, std::max(1, context.multiprocessors));
  if (shape.warps_n == 0)
    shape.warps_n = each <= 2 ? 1 : static_cast<int>(std::min<int64_t>(each, 8));
  if (shape.warps_k == 0) shape.warps_k = shape.warps_n >= 4 ? 1 : 4 / shape.warps_n;
  const auto count = static_cast<int>(CeilDivide(columns, shape.warps_k * kFewRowsStep));
  if (shape.stages == 0) {
    const int64_t fitting = kRingBytes / StageBytes(shape, tiles);
    shape.stages = static_cast<int>(std::clamp<int64_t>(fitting, 2, kFewRowsMostStages));
  }
  if (shape.ahead < 0) {
    shape.ahead = static_cast<int>(CeilDivide(kAheadBytes, WeightBytesOfStage(shape)));
  }
  shape.ahead = std::clamp(shape.ahead, 0, std::max(0, count - (shape.stages - 1)));
  return shape;
}

cudaError_t Run(FewRowsTask task, int64_t units, Format format, const Context& context) {
  if (!Aligned16(task.x)) return cudaErrorMisalignedAddress;
  const int tiles = TilesFor(task.rows);
  FewRowsShape& shape = task.shape;
  shape = Chosen(shape, units, task.weight.columns, tiles, context);
  const int warps = shape.warps_n * shape.warps_k;
  if (shape.warps_n < 1 || shape.warps_k < 1 || warps > kFewRowsMostWarps || shape.stages < 2 ||
      shape.stages > kFewRowsMostStages) {
    return cudaErrorInvalidValue;
  }
  const int64_t count = CeilDivide(task.weight.columns, shape.warps_k * kFewRowsStep);
  const int64_t last = CeilDivide(kOpenBytes, WeightBytesOfStage(shape));
  task.open_stage = static_cast<int>(std::max<int64_t>(0, count - last));
  const LaunchShape launch{.grid_x = CeilDivide(units, shape.warps_n),
                           .threads = 32 * warps,
                           .shared_bytes = std::max(shape.stages * StageBytes(shape, tiles),
                                                    ArenaBytes<float>(int64_t{warps} * 2 * tiles *
                                                                      8 * FewRowsSums::kStride))};
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
  if (params.rows < 1 || params.rows > kFewRows) return cudaErrorInvalidValue;
  return Run({.x = params.x,
              .weight = params.weight,
              .second = {},
              .rows = static_cast<int>(params.rows),
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
  if (params.rows < 1 || params.rows > kFewRows || params.w1.rows != params.w3.rows ||
      params.w1.columns != params.w3.columns) {
    return cudaErrorInvalidValue;
  }
  return Run({.x = params.x,
              .weight = params.w1,
              .second = params.w3,
              .rows = static_cast<int>(params.rows),
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
  if (params.rows < 1 || params.rows > kFewRows || heads.kv_heads <= 0 ||
      heads.heads % heads.kv_heads != 0 || heads.head_dim <= 0 || heads.head_dim % 32 != 0 ||
      params.wqkv.rows != (heads.heads + 2 * heads.kv_heads) * heads.head_dim) {
    return cudaErrorInvalidValue;
  }
  return Run({.x = params.x,
              .weight = params.wqkv,
              .second = {},
              .rows = static_cast<int>(params.rows),
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
