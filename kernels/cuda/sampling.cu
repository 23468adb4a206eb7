#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sampling.cuh"

namespace xcomposer::cuda {

int64_t SamplePartialWords(int64_t rows, int64_t vocab) {
  return rows * CeilDivide(vocab, kSampleSlice) * SampleRecord::kWords;
}

cudaError_t Sample(const SampleParams& params, const Context& context) {
  if (params.rows < 0 || params.vocab <= 0 || params.vocab >= 0xFFFFFF ||
      params.partial == nullptr || params.counters == nullptr) {
    return cudaErrorInvalidValue;
  }
  const LaunchShape shape{
      .grid_x = CeilDivide(params.vocab, kSampleSlice),
      .grid_y = params.rows,
      .threads = kSampleThreads,
      .shared_bytes = ArenaBytes<uint64_t>(256) + ArenaBytes<int>(256) +
                      ArenaBytes<uint64_t>(kSampleWarps) + ArenaBytes<uint64_t>(3) +
                      ArenaBytes<uint64_t>(kSampleGathered) + ArenaBytes<uint64_t>(kSampleListed) +
                      ArenaBytes<uint64_t>(kSampleFew) + ArenaBytes<int>(1)};
  return Launch(SampleKernel<kSampleThreads>, shape, params, context);
}

}  // namespace xcomposer::cuda
