#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <cstring>

#include "ops/cuda_library.h"
#include "ops/cuda_resources.h"
#include "support/cuda_device.h"
#include "support/emulator/runtime.h"

namespace xcomposer::cuda_testing {
namespace {

using at::IntArrayRef;
using at::Tensor;

bool constant_memory = false;

emulator::GlobalMemory& Memory() { return emulator::Machine::Instance().global(); }

class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = Memory().Allocate(bytes, constant_memory);
    return {data, data, &Free, CudaDevice()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

 private:
  static void Free(void* data) { Memory().Free(data); }
};

DeviceAllocator& Allocator() {
  static DeviceAllocator allocator;
  return allocator;
}

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::ScalarType TypeOr(std::optional<at::ScalarType> type) { return type.value_or(at::kFloat); }

Tensor Empty(IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &Allocator(), kKeys, TypeOr(type), format);
}

Tensor EmptyStrided(IntArrayRef size, IntArrayRef stride, std::optional<at::ScalarType> type,
                    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &Allocator(), kKeys, TypeOr(type));
}

/// The same memory as a tensor of the host.
Tensor HostView(const Tensor& t) {
  if (t.is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(),
                       at::TensorOptions().dtype(t.scalar_type()));
}

Tensor CopyFrom(const Tensor& from, const Tensor& to, bool) {
  HostView(to).copy_(HostView(from));
  return to;
}

Tensor CopyFromAndResize(const Tensor& from, const Tensor& to) { return CopyFrom(from, to, false); }

Tensor View(const Tensor& t, IntArrayRef size) { return at::native::view(t, size); }

Tensor AsStrided(const Tensor& t, IntArrayRef size, IntArrayRef stride,
                 std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(t, size, stride, offset);
}

void OnTheHost(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

cuda::Context EmulatedContext() {
  return {.stream = nullptr, .multiprocessors = 3, .programmatic_launch = true};
}

}  // namespace

struct CudaRun::Run {
  ops::CudaResources resources{EmulatedContext(), CudaDevice()};
  ops::CudaScope scope{resources};
};

std::string WhyNoDevice() { return ""; }

bool IsEmulated() { return true; }

at::Device CudaDevice() { return at::Device(at::kPrivateUse1, 0); }

std::string TakeFault() { return emulator::TakeFault(); }

CudaRun::CudaRun() : run_(std::make_unique<Run>()) {}

CudaRun::~CudaRun() { EXPECT_EQ(TakeFault(), ""); }

Tensor OnDevice(const Tensor& host, bool constant) {
  constant_memory = constant;
  Tensor device = at::empty(host.sizes(), host.options().device(CudaDevice()));
  constant_memory = false;
  return device.copy_(host);
}

Tensor DeviceWeights::Allocate(IntArrayRef shape) {
  constant_memory = true;
  Tensor device = at::empty(shape, at::TensorOptions().dtype(type_).device(CudaDevice()));
  constant_memory = false;
  return device;
}

Tensor DeviceWeights::Load(const std::string& name, IntArrayRef shape) {
  return OnDevice(host_.Take(name, shape).to(type_), /*constant=*/true);
}

}  // namespace xcomposer::cuda_testing

C10_REGISTER_GUARD_IMPL(PrivateUse1, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1>)

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  c10::SetAllocator(c10::DeviceType::PrivateUse1, &xcomposer::cuda_testing::Allocator());
  m.impl("empty.memory_format", &xcomposer::cuda_testing::Empty);
  m.impl("empty_strided", &xcomposer::cuda_testing::EmptyStrided);
  m.impl("_copy_from", &xcomposer::cuda_testing::CopyFrom);
  m.impl("_copy_from_and_resize", &xcomposer::cuda_testing::CopyFromAndResize);
  m.impl("view", &xcomposer::cuda_testing::View);
  m.impl("as_strided", &xcomposer::cuda_testing::AsStrided);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&xcomposer::cuda_testing::OnTheHost>());
}

TORCH_LIBRARY_IMPL(xcomposer, PrivateUse1, m) { xcomposer::ops::RegisterCudaOps(m); }
