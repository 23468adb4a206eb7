#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_few_rows.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kMaxNumbers = int64_t{1} << 30;  // rows and columns are int on the device

// Of a block's ring. The next kernel's blocks find room beside the smallest one. Where a
// multiprocessor has one block only, bytes in flight help more: six stages suffice for what lies
// 512 bytes wide.
constexpr int64_t kRingBytes = 96 * 1024;
constexpr int64_t kOneBlockRingBytes = 192 * 1024;
constexpr int64_t kOneWaveStages = 6;
// A row of weights is best read in long runs: the warps along K take 128 bytes each.
constexpr int64_t kLeastStages = 3;
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
  return int64_t{2} * shape.warps_n * shape.warps_k * shape.left_tiles * kFewRowsTile *
         kFewRowsStep;
}

int64_t StageBytes(const FewRowsShape& shape, int tiles) {
  return WeightBytesOfStage(shape) + int64_t{2} * shape.warps_k * tiles * 8 * kFewRowsStep;
}

/// Whole units on a multiprocessor, at most.
int64_t UnitsOfEach(int64_t units, const Context& context) {
  return CeilDivide(units, std::max(1, context.multiprocessors));
}

/// Smaller units where that leaves the busiest multiprocessor fewer rows of weights.
int ChosenLeftTiles(int64_t units_of_two, const Context& context) {
  return UnitsOfEach(2 * units_of_two, context) < 2 * UnitsOfEach(units_of_two, context) ? 1 : 2;
}

bool FitsRing(const FewRowsShape& shape, int tiles, int64_t ring_bytes) {
  return shape.warps_n * shape.warps_k <= kFewRowsMostWarps &&
         kLeastStages * StageBytes(shape, tiles) <= ring_bytes;
}

/// A multiprocessor's units in as few blocks as a ring has stages for.
int WarpsAlongN(FewRowsShape shape, int64_t each, int tiles, int64_t ring_bytes) {
  shape.warps_k = 1;
  for (int64_t blocks = 1; blocks < each; ++blocks) {
    shape.warps_n = static_cast<int>(CeilDivide(each, blocks));
    if (FitsRing(shape, tiles, ring_bytes)) return shape.warps_n;
  }
  return 1;
}

/// So many as a block's ring has stages for.
int WarpsAlongK(FewRowsShape shape, int tiles, int64_t ring_bytes) {
  for (shape.warps_k = 4; shape.warps_k > 1; shape.warps_k /= 2) {
    if (FitsRing(shape, tiles, ring_bytes)) break;
  }
  return shape.warps_k;
}

/// Few units: a block for each, whose warps share out K. Several: as many to a block as give every
/// multiprocessor one. Many: small blocks, several to a multiprocessor.
FewRowsShape Chosen(FewRowsShape shape, int64_t units, int64_t rows, const Context& context) {
  const int64_t each = UnitsOfEach(units, context);
  const bool few = each <= 2;
  const bool several = !few && each <= kFewRowsMostWarps;
  const int tiles = TilesFor(rows);
  const int64_t ring = std::min<int64_t>(each <= 1 || several ? kOneBlockRingBytes : kRingBytes,
                                         context.block_shared_bytes);
  if (shape.warps_n == 0) {
    shape.warps_n = few ? 1 : several ? WarpsAlongN(shape, each, tiles, ring) : 4;
  }
  if (shape.warps_k == 0) {
    shape.warps_k = few       ? std::max(1, 4 / shape.warps_n)
                    : several ? WarpsAlongK(shape, tiles, ring)
                              : 2;
  }
  if (shape.stages == 0) {
    const int64_t most = each <= 1 ? kOneWaveStages : kFewRowsMostStages;
    const int64_t fitting = ring / StageBytes(shape, tiles);
    shape.stages = static_cast<int>(std::clamp<int64_t>(fitting, 2, most));
  }
  return shape;
}

bool IsPossible(const FewRowsShape& shape, FewRowsResult result) {
  const bool left =
      shape.left_tiles == 2 || (shape.left_tiles == 1 && result == FewRowsResult::kRotated);
  return left && shape.warps_n >= 1 && shape.warps_k >= 1 &&
         shape.warps_n * shape.warps_k <= kFewRowsMostWarps && shape.stages >= 2 &&
         shape.stages <= kFewRowsMostStages;
}

template <typename T, int kLeft>
cudaError_t LaunchTiles(int tiles, const LaunchShape& launch, const FewRowsTask& task,
                        const Context& context) {
  switch (tiles) {
    case 1:
      return Launch(FewRowsKernel<T, kLeft, 1>, launch, task, context);
    case 2:
      return Launch(FewRowsKernel<T, kLeft, 2>, launch, task, context);
    default:
      return Launch(FewRowsKernel<T, kLeft, 4>, launch, task, context);
  }
}

/// `units`: of two tiles.
cudaError_t Run(FewRowsTask task, int64_t units, Format format, const Context& context) {
  if (task.rows < 1 || task.rows > kFewRows) return cudaErrorInvalidValue;
  if (!Aligned16(task.x)) return cudaErrorMisalignedAddress;
  FewRowsShape& shape = task.shape;
  if (shape.warps_n < 0 || shape.warps_k < 0 || shape.stages < 0) return cudaErrorInvalidValue;
  if (shape.left_tiles == 0) {
    shape.left_tiles = task.result == FewRowsResult::kRotated ? ChosenLeftTiles(units, context) : 2;
  }
  if (shape.left_tiles == 1) units *= 2;
  shape = Chosen(shape, units, task.rows, context);
  if (!IsPossible(shape, task.result)) return cudaErrorInvalidValue;
  const int tiles = TilesFor(task.rows);
  const int warps = shape.warps_n * shape.warps_k;
  task.open = static_cast<int>(CeilDivide(kOpenBytes, WeightBytesOfStage(shape)));
  const int64_t sums = int64_t{warps} * shape.left_tiles * tiles * 8 * FewRowsSums<2>::kStride;
  const LaunchShape launch{
      .grid_x = CeilDivide(units, shape.warps_n),
      .threads = 32 * warps,
      .shared_bytes = std::max(shape.stages * StageBytes(shape, tiles), ArenaBytes<float>(sums))};
  if (launch.shared_bytes > context.block_shared_bytes) return cudaErrorInvalidValue;
  return ForFormat(format, [&](auto number) {
    using T = decltype(number);
    return shape.left_tiles == 1 ? LaunchTiles<T, 1>(tiles, launch, task, context)
                                 : LaunchTiles<T, 2>(tiles, launch, task, context);
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
             CeilDivide(params.weight.rows, 2 * kFewRowsTile), params.format, context);
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
             params.wqkv.rows / (2 * kFewRowsTile), params.format, context);
}

}  // namespace xcomposer::cuda
