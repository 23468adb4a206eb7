#include "pipeline/cuda_upload.h"

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <vector>

#include "ops/cuda_arguments.h"
#include "pipeline/cuda_placement.h"

namespace xcomposer {
namespace {

using c10::cuda::CUDAStream;

// Small enough to stay in the processor's caches until the bus has fetched them, large enough that
// a copy takes many times as long as starting it.
constexpr size_t kStagingBytes = size_t{4} << 20;

// While one places its numbers, which takes a small part of a copy's time, the others copy. On an
// H200 two, four and eight of them were equally fast.
constexpr size_t kStreams = 4;

/// Memory of the host that GPUs copy from by themselves. Registering pages that are there costs
/// less than having the driver allocate them, and threads do it side by side.
class StagingBuffer {
 public:
  StagingBuffer() : data_(std::aligned_alloc(kHugePage, kStagingBytes)) {
    if (data_ == nullptr) throw std::bad_alloc();
    madvise(data_.get(), kStagingBytes, MADV_HUGEPAGE);  // fewer pages to register, if granted
    std::memset(data_.get(), 0, kStagingBytes);
    C10_CUDA_CHECK(cudaHostRegister(data_.get(), kStagingBytes, cudaHostRegisterPortable));
  }
  ~StagingBuffer() { C10_CUDA_CHECK_WARN(cudaHostUnregister(data_.get())); }
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  std::span<std::byte> bytes() { return {static_cast<std::byte*>(data_.get()), kStagingBytes}; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };

  std::unique_ptr<void, Free> data_;
};

class CudaUpload final : public UploadDevice {
 public:
  CudaUpload(CUDAStream allocating, size_t buffers)
      : allocating_(allocating),
        buffers_(buffers),
        events_(buffers),
        staged_(at::empty({static_cast<int64_t>(kStreams * kStagingBytes)},
                          at::TensorOptions().dtype(at::kByte).device(allocating.device()))) {
    // LibTorch's pools hand out the same 32 streams by turns. From the stages' own one a later load
    // would get the stream of a stage that may be recording.
    for (size_t i = 0; i < kStreams; ++i) {
      streams_.push_back(
          c10::cuda::getStreamFromPool(/*isHighPriority=*/true, allocating.device_index()));
    }
  }

  /// The streams' own memory goes back to where it came from, the host's is no longer registered:
  /// nothing may use them any more.
  ~CudaUpload() override {
    for (const CUDAStream& stream : streams_) {
      C10_CUDA_CHECK_WARN(cudaStreamSynchronize(stream.stream()));
    }
  }
  CudaUpload(const CudaUpload&) = delete;
  CudaUpload& operator=(const CudaUpload&) = delete;

  void Settle() override { allocating_.synchronize(); }

  size_t buffer_bytes() const override { return kStagingBytes; }

  size_t streams() const override { return kStreams; }

  void Make(size_t buffer) override {
    const c10::cuda::CUDAGuard device(allocating_.device_index());
    buffers_[buffer].emplace();
  }

  std::span<std::byte> Buffer(size_t buffer) override { return buffers_[buffer]->bytes(); }

  void Copy(size_t stream, size_t buffer, void* target, size_t bytes) override {
    const c10::cuda::CUDAGuard device(allocating_.device_index());
    C10_CUDA_CHECK(cudaMemcpyAsync(target, Buffer(buffer).data(), bytes, cudaMemcpyHostToDevice,
                                   streams_[stream].stream()));
  }

  void Stage(size_t stream, size_t buffer, size_t bytes) override {
    Copy(stream, buffer, StagedIn(stream), bytes);
  }

  void Mark(size_t stream, size_t buffer) override { events_[buffer].record(streams_[stream]); }

  void Place(size_t stream, const UploadPiece& piece) override {
    const c10::cuda::CUDAGuard device(allocating_.device_index());
    const cuda::Context context{.stream = streams_[stream].stream()};
    ops::Launched("placing weights",
                  cuda::PlaceWeights(PlacementOf(piece, StagedIn(stream)), context));
  }

  void Wait(size_t buffer) override {
    if (events_[buffer].isCreated()) events_[buffer].synchronize();
  }

  void Finish() override {
    for (const CUDAStream& stream : streams_) stream.synchronize();
  }

 private:
  void* StagedIn(size_t stream) const {
    return staged_.mutable_data_ptr<uint8_t>() + stream * kStagingBytes;
  }

  CUDAStream allocating_;
  std::vector<std::optional<StagingBuffer>> buffers_;
  std::vector<CUDAStream> streams_;
  std::vector<at::cuda::CUDAEvent> events_;
  at::Tensor staged_;  // each stream's own
};

}  // namespace

std::unique_ptr<UploadDevice> MakeCudaUpload(CUDAStream allocating, size_t buffers) {
  return std::make_unique<CudaUpload>(allocating, buffers);
}

}  // namespace xcomposer
