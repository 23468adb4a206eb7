#include "bench/cuda/weight_link.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/cuda/link_buffers.h"
#include "kernels/cuda/place_weights.h"

namespace xcomposer::cuda {
namespace {

constexpr size_t kBytes = size_t{256} << 20;
constexpr size_t kAllocatedBytes = size_t{8} << 30;
constexpr size_t kAllocatedPart = size_t{128} << 20;

/// Numbers that go to memory of a stream's own on the card and from there to their places, as
/// weights do that change their type.
class PlacedCopies {
 public:
  explicit PlacedCopies(size_t streams)
      : streams_(streams), staged_(streams * kPiece), losses_(2 * sizeof(uint64_t)) {
    for (cudaStream_t& stream : streams_) {
      Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    }
  }
  ~PlacedCopies() {
    for (cudaStream_t stream : streams_) cudaStreamDestroy(stream);
  }
  PlacedCopies(const PlacedCopies&) = delete;
  PlacedCopies& operator=(const PlacedCopies&) = delete;

  void Run(const PinnedBuffer& pinned, const DeviceBuffer& to) const {
    for (size_t at = 0; at < kBytes; at += kPiece) {
      const size_t turn = at / kPiece % streams_.size();
      char* const staged = staged_.data() + turn * kPiece;
      Check(cudaMemcpyAsync(staged, pinned.data() + at, kPiece, cudaMemcpyHostToDevice,
                            streams_[turn]),
            "cudaMemcpyAsync");
      Check(PlaceWeights({.staged = staged,
                          .target = to.data(),
                          .first = static_cast<int64_t>(at / 2),
                          .count = kPiece / 2,
                          .columns = kBytes / 2,
                          .row_stride = kBytes / 2,
                          .losses = reinterpret_cast<uint64_t*>(losses_.data())},
                         {.stream = streams_[turn]}),
            "PlaceWeights");
    }
    for (cudaStream_t stream : streams_) {
      Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    }
  }

 private:
  static constexpr size_t kPiece = size_t{4} << 20;

  std::vector<cudaStream_t> streams_;
  DeviceBuffer staged_;
  DeviceBuffer losses_;
};

/// Memory of the card in parts of a weight's size; all of it is given back at once.
void Allocate() {
  std::vector<std::unique_ptr<DeviceBuffer>> parts;
  for (size_t i = 0; i < kAllocatedBytes / kAllocatedPart; ++i) {
    parts.push_back(std::make_unique<DeviceBuffer>(kAllocatedPart));
  }
}

}  // namespace

void MeasureWeightLink(Figures& figures) {
  // What weights need before they can be copied: it must not be slower than the link.
  figures.Group("host.allocate", [&] {
    figures.Give("host.allocate", MeasureWall(Allocate, 3),
                 {.bytes = static_cast<double>(kAllocatedBytes)}, "64 parts; made and freed");
  });
  figures.Group("variant.host.placed", [&] {
    const DeviceBuffer target(kBytes);
    const PinnedBuffer pinned(kBytes);
    std::memset(pinned.data(), 0x3F, kBytes);  // numbers that float16 has room for
    for (const size_t streams : {1, 2, 4}) {
      const PlacedCopies placed(streams);
      figures.Give("variant.host.placed_" + std::to_string(streams) + "_streams",
                   MeasureWall([&] { placed.Run(pinned, target); }, 5),
                   {.bytes = static_cast<double>(kBytes)}, "bfloat16 to float16 on the card");
    }
  });
}

}  // namespace xcomposer::cuda
