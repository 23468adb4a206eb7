#include <ATen/Context.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/cuda/PeerToPeerAccess.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/cpu/core_count.h"
#include "ops/cuda_resources.h"
#include "pipeline/cuda_upload.h"
#include "pipeline/device_weights.h"
#include "pipeline/stage_device.h"
#include "pipeline/stream_shelf.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

using c10::cuda::CUDAStream;

constexpr int kMostReaders = 12;  // a core reads 4 to 6 GB/s, the bus takes 55

/// LibTorch keeps a set of graphs in each device's random generator and does not guard it: stages
/// that share a device record and drop graphs one after another.
std::mutex& Recording() {
  static std::mutex mutex;
  return mutex;
}

class CudaGraph final : public CapturedGraph {
 public:
  CudaGraph() : graph(std::make_unique<at::cuda::CUDAGraph>()) {}
  ~CudaGraph() override {
    const std::lock_guard lock(Recording());
    graph.reset();
  }
  void Replay() override {
    Translated("replaying a CUDA graph", [this] { graph->replay(); });
  }
  std::unique_ptr<at::cuda::CUDAGraph> graph;
};

/// Records the current stream of the calling thread; the others of the process go on as they were.
class CudaGraphs final : public GraphRecorder {
 public:
  std::unique_ptr<CapturedGraph> Record(const std::function<void()>& work) override {
    auto recorded = std::make_unique<CudaGraph>();  // outlives the lock, which its end takes too
    try {
      Capture(*recorded->graph, work);
    } catch (...) {
      // A pool that no graph holds any more cannot be used again.
      pool_ = at::cuda::graph_pool_handle();
      throw;
    }
    return recorded;
  }

 private:
  // One for all graphs of a stage: they run one after another and leave nothing in it.
  c10::MempoolId_t pool_ = at::cuda::graph_pool_handle();

  void Capture(at::cuda::CUDAGraph& graph, const std::function<void()>& work) const {
    const std::lock_guard lock(Recording());
    Translated("recording a CUDA graph", [&] {
      graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      try {
        work();
      } catch (...) {
        EndFailed(graph);
        throw;
      }
      graph.capture_end();
    });
  }

  /// Takes the stream out of recording; what else goes wrong is a consequence.
  static void EndFailed(at::cuda::CUDAGraph& graph) {
    try {
      graph.capture_end();
    } catch (const std::exception&) {
      static_cast<void>(cudaGetLastError());
    }
  }
};

/// Of stages: two must never share one, since what one launches while the other records would be
/// recorded instead of run.
StreamShelf<CUDAStream>::Lent StreamOfStage(c10::DeviceIndex number) {
  static auto* const shelf = new StreamShelf<CUDAStream>();  // outlives every stage
  return shelf->Take(number, [number] {
    const c10::cuda::CUDAGuard guard(number);
    cudaStream_t stream = nullptr;
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return c10::cuda::getStreamFromExternal(stream, number);
  });
}

cuda::Context ContextOf(CUDAStream stream) {
  cuda::Context context;
  C10_CUDA_CHECK(cuda::DescribeContext(stream.device_index(), stream.stream(), context));
  return context;
}

/// Two machines may call their GPUs alike, and two processes of one machine may count them
/// differently: which boot of which machine, and where on its bus.
std::string NameOfGpu(c10::DeviceIndex number) {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::array<char, 64> bus{};
  C10_CUDA_CHECK(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), number));
  return StrCat("GPU ", bus.data(), " of the machine booted as ", boot);
}

/// A stream of its own beside the stage's, so that rows travel while the next ones are computed.
class CudaPort final : public GpuPort {
 public:
  explicit CudaPort(c10::DeviceIndex number)
      : name_(NameOfGpu(number)),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, number)) {
    const InUse use(stream_);
    scratch_ = at::empty({8}, at::TensorOptions().dtype(at::kByte).device(at::kCUDA, number));
  }

  std::string gpu() const override { return name_; }
  CudaStream stream() const override { return stream_.stream(); }
  void* scratch() const override { return scratch_.data_ptr(); }
  std::unique_ptr<Use> Enter() override { return std::make_unique<InUse>(stream_); }

  /// Memory of the transfers' stream: whoever used it before is done where that stream begins.
  DeviceRows Allocate(int64_t bytes) override {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(stream_.device());
    // They have arrived when they are given on, so that only the memory has to be kept.
    return {at::empty({bytes / static_cast<int64_t>(sizeof(float))}, options),
            [](const at::Tensor& rows) {
              c10::cuda::CUDACachingAllocator::recordStream(rows.storage().data_ptr(),
                                                            c10::cuda::getCurrentCUDAStream());
            }};
  }

 private:
  struct InUse final : Use {
    explicit InUse(CUDAStream stream) : guard(stream) {}
    c10::cuda::CUDAStreamGuard guard;
  };

  const std::string name_;
  CUDAStream stream_;
  at::Tensor scratch_;
};

/// A stage's own stream on a GPU. Memory is LibTorch's caching allocator's.
class CudaDevice final : public StageDevice {
 public:
  CudaDevice(c10::DeviceIndex number, at::ScalarType type, std::optional<int64_t> budget)
      : options_(at::TensorOptions().dtype(type).device(at::kCUDA, number)),
        lent_(StreamOfStage(number)),
        stream_(lent_.stream()) {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    LimitMemory(budget);
    resources_.emplace(ContextOf(stream_), options_.device());
    stream_.synchronize();
  }

  at::TensorOptions options() const override { return options_; }

  at::TensorOptions host_options() const override {
    return at::TensorOptions().pinned_memory(true);
  }

  std::unique_ptr<Lease> Enter() override { return std::make_unique<Use>(*this); }

  void Load(WeightSource& host, const std::function<void(WeightSource&)>& load) override {
    const Use use(*this);
    const auto readers = static_cast<size_t>(std::clamp(cpu::UsableCores(), 1, kMostReaders));
    DeviceWeights weights(
        host, options_,
        std::make_unique<StagedUpload>(MakeCudaUpload(stream_, 2 * readers), readers));
    load(weights);
    weights.Finish();
    stream_.synchronize();
  }

  GraphRecorder* recorder() override { return &graphs_; }

  DeviceRows Give(const at::Tensor& rows) override {
    const auto computed = std::make_shared<at::cuda::CUDAEvent>();
    computed->record(stream_);
    return {rows, [computed, from = stream_.device_index()](const at::Tensor& given) {
              Check(given.device().index() == from, "rows of another GPU than the event's");
              const CUDAStream user = c10::cuda::getCurrentCUDAStream();
              computed->block(user);
              c10::cuda::CUDACachingAllocator::recordStream(given.storage().data_ptr(), user);
            }};
  }

  /// On the calling thread the current device and stream are this stage's.
  at::Tensor Take(const DeviceRows& given) override {
    given.wait(given.rows);
    const auto from = given.rows.device().index();
    const auto to = options_.device().index();
    if (from == to) return given.rows;
    at::cuda::get_p2p_access(from, to);  // from now on directly, where the machine can
    at::Tensor rows = at::empty(given.rows.sizes(), options_.dtype(at::kFloat));  // (T, C)
    C10_CUDA_CHECK(cudaMemcpyPeerAsync(rows.mutable_data_ptr(), to, given.rows.const_data_ptr(),
                                       from, given.rows.nbytes(), stream_.stream()));
    return rows;
  }

  std::unique_ptr<GpuPort> OpenPort() override {
    return std::make_unique<CudaPort>(stream_.device_index());
  }

 private:
  struct Use final : Lease {
    explicit Use(CudaDevice& device) : stream(device.stream_), scope(*device.resources_) {}
    c10::cuda::CUDAStreamGuard stream;
    ops::CudaScope scope;
  };

  /// One limit for all that this process has on the device.
  void LimitMemory(std::optional<int64_t> budget) const {
    using c10::CachingAllocator::StatType;
    size_t free = 0;
    size_t total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(stream_.device_index());
    const int64_t own = stats.reserved_bytes[static_cast<size_t>(StatType::AGGREGATE)].current;
    c10::cuda::CUDACachingAllocator::setMemoryFraction(
        MemoryShare(own, static_cast<int64_t>(free), static_cast<int64_t>(total), budget),
        stream_.device_index());
  }

  at::TensorOptions options_;
  StreamShelf<CUDAStream>::Lent lent_;
  CUDAStream stream_;
  std::optional<ops::CudaResources> resources_;
  CudaGraphs graphs_;
};

}  // namespace

std::unique_ptr<StageDevice> MakeCudaDevice(int number, const PipelineOptions& options,
                                            std::optional<int64_t> budget) {
  const at::ScalarType type =
      options.storage == WeightStorage::kBFloat16 ? at::kBFloat16 : at::kHalf;
  return Translated(StrCat("setting up cuda:", number), [&]() -> std::unique_ptr<StageDevice> {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    return std::make_unique<CudaDevice>(static_cast<c10::DeviceIndex>(number), type, budget);
  });
}

}  // namespace xcomposer
