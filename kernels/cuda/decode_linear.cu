#include <algorithm>

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

constexpr int64_t kReserved = 1024;  // by the system, of each block's shared memory

// Schedules by their stages, without copies in bulk. Stages that are asked for early: most of what
// there is, less for wo, which comes while attention waits for keys. w2 has a long input and five
// stages.
template <int kWarpsOfPair>
struct AfterNorm {
  template <int kStages>
  using Schedule = PairSchedule<kStages, 5, kWarpsOfPair>;
};
struct OfAdd {
  template <int kStages>
  using Schedule = PairSchedule<kStages, kStages == 5 ? 4 : 3, 1>;
};

/// Stages of weights that two blocks on a multiprocessor have room for beside `others`, of those
/// that there are kernels for.
int StagesFor(int64_t others, const Context& context) {
  const int64_t room = context.shared_bytes / 2 - kReserved - others;
  for (const int stages : {6, 5}) {
    if (room >= stages * kDecodeStageBytes) return stages;
  }
  return 2;
}

/// One block on every multiprocessor; false where that has too little shared memory.
template <typename Params, typename KernelOf>
bool LaunchInBulk(int64_t pairs, int64_t columns, const Params& params, const Context& context,
                  const KernelOf& kernel_of, cudaError_t& status) {
  using Schedule = BulkSchedule;
  const int64_t blocks =
      std::min<int64_t>(context.multiprocessors, CeilDivide(pairs, Schedule::kWarps));
  const int64_t turns = CeilDivide(pairs, blocks * Schedule::kWarps);
  const LaunchShape shape{
      .grid_x = blocks,
      .threads = Schedule::kThreads,
      .shared_bytes =
          Schedule::kAlignment - 16 + Schedule::kWarps * Schedule::kStages * Schedule::kStageBytes +
          ArenaBytes<uint64_t>(Schedule::kBarriers) + ArenaBytes<float>(kDecodeThreads / 32) +
          ArenaBytes<Half>(columns) + ArenaBytes<float>(2 * Schedule::kWarps * turns)};
  // In its last KiB the limit that Launch sets would depend on the launch.
  if (shape.shared_bytes > context.block_shared_bytes - kReserved) return false;
  status = ForFormat(params.format, [&](auto number) {
    return Launch(kernel_of(number, Schedule{}), shape, params, context);
  });
  return true;
}

/// Two blocks on every multiprocessor.
template <typename Copied, typename Params, typename KernelOf>
cudaError_t LaunchCopied(int64_t pairs, int64_t columns, const Params& params,
                         const Context& context, const KernelOf& kernel_of) {
  using Any = typename Copied::template Schedule<2>;
  const int64_t blocks =
      std::min<int64_t>(2 * context.multiprocessors, CeilDivide(pairs, Any::kPairs));
  const int64_t parts =
      Any::kWarpsOfPair == 1 ? 0 : 2 * kDecodeWarps * CeilDivide(pairs, blocks * Any::kPairs);
  const int64_t others =
      ArenaBytes<float>(kDecodeWarps) + ArenaBytes<Half>(columns) + ArenaBytes<float>(parts);
  const int stages = StagesFor(others, context);
  const LaunchShape shape{.grid_x = blocks,
                          .threads = kDecodeThreads,
                          .shared_bytes = others + stages * kDecodeStageBytes};
  return ForFormat(params.format, [&](auto number) {
    const auto launch = [&](auto schedule) {
      return Launch(kernel_of(number, schedule), shape, params, context);
    };
    if (stages == 6) return launch(typename Copied::template Schedule<6>{});
    if (stages == 5) return launch(typename Copied::template Schedule<5>{});
    return launch(Any{});
  });
}

/// kernel_of(number, schedule) is the kernel of a number format and a schedule.
template <typename Copied, typename Params, typename KernelOf>
cudaError_t LaunchPairs(int64_t pairs, int64_t columns, const Params& params,
                        const Context& context, const KernelOf& kernel_of) {
  cudaError_t status = cudaSuccess;
  if (context.warpgroup_products &&
      LaunchInBulk(pairs, columns, params, context, kernel_of, status)) {
    return status;
  }
  return LaunchCopied<Copied>(pairs, columns, params, context, kernel_of);
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
  return LaunchPairs<AfterNorm<2>>(params.wqkv.rows / 2, params.wqkv.columns, params, context,
                                   [](auto number, auto schedule) {
                                     return DecodeQkvKernel<decltype(number), decltype(schedule)>;
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
  return LaunchPairs<AfterNorm<1>>(
      params.w1.rows, params.w1.columns, params, context, [](auto number, auto schedule) {
        return DecodeGateUpKernel<decltype(number), decltype(schedule)>;
      });
}

cudaError_t DecodeAdd(const DecodeAddParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  return LaunchPairs<OfAdd>(params.weight.rows / 2, params.weight.columns, params, context,
                            [](auto number, auto schedule) {
                              return DecodeAddKernel<decltype(number), decltype(schedule)>;
                            });
}

cudaError_t DecodeLogits(const DecodeLogitsParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return LaunchPairs<AfterNorm<1>>(
      params.weight.rows / 2, params.weight.columns, params, context,
      [](auto number, auto schedule) {
        return DecodeLogitsKernel<decltype(number), decltype(schedule)>;
      });
}

}  // namespace xcomposer::cuda
