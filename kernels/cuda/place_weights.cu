#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/place_weights.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kThreads = 256;

/// Calls choose(Half{}), choose(BFloat16{}) or choose(float{}).
template <typename Choose>
cudaError_t ForFileFormat(FileFormat format, const Choose& choose) {
  switch (format) {
    case FileFormat::kFloat16:
      return choose(Half{});
    case FileFormat::kBfloat16:
      return choose(BFloat16{});
    case FileFormat::kFloat32:
      return choose(0.0f);
  }
  return cudaErrorInvalidValue;
}

template <typename Pointee>
bool AlignedTo(const Pointee* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

cudaError_t Check(const PlaceWeightsParams& p) {
  if (p.first < 0 || p.count < 0 || p.columns <= 0 || p.row_stride < p.columns ||
      p.losses == nullptr) {
    return cudaErrorInvalidValue;
  }
  const bool aligned = Aligned16(p.staged) && AlignedTo(p.target, 2) && AlignedTo(p.losses, 8);
  return aligned ? cudaSuccess : cudaErrorMisalignedAddress;
}

}  // namespace

cudaError_t PlaceWeights(const PlaceWeightsParams& params, const Context& context) {
  if (const cudaError_t status = Check(params); status != cudaSuccess) return status;
  const LaunchShape shape{.grid_x = CeilDivide(params.count, 8 * kThreads), .threads = kThreads};
  return ForFileFormat(params.from, [&](auto from) {
    return ForFormat(params.to, [&](auto to) {
      return Launch(PlaceWeightsKernel<decltype(from), decltype(to)>, shape, params, context);
    });
  });
}

}  // namespace xcomposer::cuda
