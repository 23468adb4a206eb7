#include <algorithm>
#include <type_traits>

#include "kernels/cuda/decode_linear.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

// Rows are numbered with int on the device.
constexpr int64_t kMaxRows = int64_t{1} << 30;

cudaError_t CheckWeight(const WeightMatrix& weight, Format format) {
  if (weight.rows <= 0 || weight.rows > kMaxRows || weight.columns <= 0 ||
      weight.columns > kDecodeColumns || weight.columns % 8 != 0 ||
      weight.row_stride < weight.columns || weight.row_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Matches(weight, format)) return cudaErrorNotSupported;
  return Aligned16(weight.data) ? cudaSuccess : cudaErrorMisalignedAddress;
}

/// Stages of weights that two blocks on a multiprocessor have room for beside `others`, of those
/// that there are kernels for.
int StagesFor(int64_t others, const Context& context) {
  constexpr int64_t kReserved = 1024;  // by the system, of each block
  const int64_t room = context.shared_bytes / 2 - kReserved - others;
  for (const int stages : {6, 5}) {
    if (room >= stages * kDecodeStageBytes) return stages;
  }
  return 2;
}

/// Two blocks on every multiprocessor, which share the pairs out among their warps.
/// kernel_of(number, stages) is the kernel of a number format and a count of stages, in which
/// `warps_of_pair` share the columns of one.
template <typename Params, typename KernelOf>
cudaError_t LaunchPairs(int64_t pairs, int64_t columns, int warps_of_pair, const Params& params,
                        const Context& context, const KernelOf& kernel_of) {
  const int at_once = kDecodeWarps / warps_of_pair;
  const int64_t blocks = std::min<int64_t>(2 * context.multiprocessors, CeilDivide(pairs, at_once));
  const int64_t parts =
      warps_of_pair == 1 ? 0 : 2 * kDecodeWarps * CeilDivide(pairs, blocks * at_once);
  const int64_t others =
      ArenaBytes<float>(kDecodeWarps) + ArenaBytes<Half>(columns) + ArenaBytes<float>(parts);
  const int stages = StagesFor(others, context);
  const LaunchShape shape{.grid_x = blocks,
                          .threads = kDecodeThreads,
                          .shared_bytes = others + stages * kDecodeStageBytes};
  return ForFormat(params.format, [&](auto number) {
    const auto launch = [&](auto count) {
      return Launch(kernel_of(number, count), shape, params, context);
    };
    if (stages == 6) return launch(std::integral_constant<int, 6>{});
    if (stages == 5) return launch(std::integral_constant<int, 5>{});
    return launch(std::integral_constant<int, 2>{});
  });
}

}  // namespace

cudaError_t DecodeQkv(const DecodeQkvParams& params, const Context& context) {
  cudaError_t status = CheckWeight(params.wqkv, params.format);
  if (status != cudaSuccess) return status;
  const HeadShape& shape = params.shape;
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 || shape.head_dim <= 0 ||
      shape.head_dim % 16 != 0 ||
      params.wqkv.rows != (shape.heads + 2 * shape.kv_heads) * shape.head_dim) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return LaunchPairs(params.wqkv.rows / 2, params.wqkv.columns, QkvSchedule<2>::kWarpsOfPair,
                     params, context, [](auto number, auto stages) {
                       return DecodeQkvKernel<decltype(number), decltype(stages)::value>;
                     });
}

cudaError_t DecodeGateUp(const DecodeGateUpParams& params, const Context& context) {
  for (const WeightMatrix& weight : {params.w1, params.w3}) {
    const cudaError_t status = CheckWeight(weight, params.format);
    if (status != cudaSuccess) return status;
  }
  if (params.w1.rows != params.w3.rows || params.w1.columns != params.w3.columns) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return LaunchPairs(params.w1.rows, params.w1.columns, 1, params, context,
                     [](auto number, auto stages) {
                       return DecodeGateUpKernel<decltype(number), decltype(stages)::value>;
                     });
}

cudaError_t DecodeAdd(const DecodeAddParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  return LaunchPairs(params.weight.rows / 2, params.weight.columns, 1, params, context,
                     [](auto number, auto stages) {
                       return DecodeAddKernel<decltype(number), decltype(stages)::value>;
                     });
}

cudaError_t DecodeLogits(const DecodeLogitsParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return LaunchPairs(params.weight.rows / 2, params.weight.columns, 1, params, context,
                     [](auto number, auto stages) {
                       return DecodeLogitsKernel<decltype(number), decltype(stages)::value>;
                     });
}

}  // namespace xcomposer::cuda
