#include "ops/cuda_resources.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "base/check.h"
#include "ops/cuda_arguments.h"

namespace xcomposer::ops {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what cuBLASLt asks for on Hopper
constexpr int64_t kCounters = int64_t{64} << 10;        // groups of blocks that share one result

thread_local CudaResources* installed = nullptr;

}  // namespace

CudaResources::CudaResources(const cuda::Context& context, at::Device device)
    : context_(context),
      workspace_(at::empty({kWorkspaceBytes}, at::TensorOptions().dtype(at::kByte).device(device))),
      counters_(at::zeros({kCounters}, at::TensorOptions().dtype(at::kInt).device(device))),
      plans_(workspace_.mutable_data_ptr(), static_cast<size_t>(kWorkspaceBytes)) {
  Launched("setting up cuBLASLt", plans_.status());
}

int32_t* CudaResources::Counters(int64_t count) {
  Require(count <= kCounters, ErrorKind::kCapacity, "a step over ", count,
          " pairs of sequence and key-value head, or rows to choose ids for; at most ", kCounters,
          " fit");
  return counters_.mutable_data_ptr<int32_t>();
}

CudaScope::CudaScope(CudaResources& resources) : previous_(std::exchange(installed, &resources)) {}

CudaScope::~CudaScope() { installed = previous_; }

CudaResources& CurrentCuda() {
  Check(installed != nullptr, "a CUDA op on a thread that has no CudaScope");
  return *installed;
}

}  // namespace xcomposer::ops
