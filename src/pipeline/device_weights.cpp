#include "pipeline/device_weights.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {
namespace {

constexpr size_t kCounted = 2048;  // tensors whose losses are counted in one allocation

}  // namespace

at::Tensor DeviceWeights::Allocate(at::IntArrayRef shape) { return at::empty(shape, options_); }

at::Tensor DeviceWeights::Load(const std::string& name, at::IntArrayRef shape) {
  at::Tensor device = at::empty(shape, options_);
  LoadInto(device, name);
  return device;
}

at::Tensor DeviceWeights::LoadStacked(const std::vector<std::string>& names,
                                      at::IntArrayRef shape) {
  std::vector<int64_t> all = shape.vec();
  all.at(0) *= static_cast<int64_t>(names.size());
  at::Tensor device = at::empty(all, options_);
  for (size_t i = 0; i < names.size(); ++i) {
    LoadInto(device.narrow(0, static_cast<int64_t>(i) * shape[0], shape[0]), names[i]);
  }
  return device;
}

void DeviceWeights::LoadInto(const at::Tensor& device, const std::string& name) {
  UnreadTensor host = host_.TakeUnread(name, device.sizes());
  const bool is_dense = device.is_contiguous();  // then its numbers are as good as one row
  Check(is_dense || device.select(0, 0).is_contiguous(), "rows of ", name,
        " have gaps on the device");
  int64_t* const losses = NextLosses();
  loaded_.push_back({name, device.numel()});
  upload_->Add({.stored = host.type,
                .count = device.numel(),
                .target = device.mutable_data_ptr(),
                .type = device.scalar_type(),
                .columns = is_dense ? device.numel() : device.numel() / device.size(0),
                .row_stride = is_dense ? device.numel() : device.stride(0),
                .losses = losses},
               std::move(host.read));
}

int64_t* DeviceWeights::NextLosses() {
  const size_t place = loaded_.size() % kCounted;
  if (place == 0) {
    losses_.push_back(at::zeros({static_cast<int64_t>(kCounted), 2}, options_.dtype(at::kLong)));
  }
  return losses_.back().mutable_data_ptr<int64_t>() + 2 * place;
}

void DeviceWeights::Finish() {
  upload_->Finish();
  at::Tensor counted;  // int64 (kCounted, 2)
  for (size_t i = 0; i < loaded_.size(); ++i) {
    if (i % kCounted == 0) counted = losses_[i / kCounted].cpu();
    const int64_t* const losses = counted.const_data_ptr<int64_t>() + 2 * (i % kCounted);
    const auto& [name, numbers] = loaded_[i];
    RequireNoOverflow({.overflows = losses[0], .underflows = losses[1]},
                      c10::typeMetaToScalarType(options_.dtype()), name);
    if (losses[1] == 0) continue;
    log::Warn(losses[1], " of ", numbers, " numbers of ", name, " are too small for ",
              options_.dtype().name(), " and became zero");
  }
  loaded_.clear();
  losses_.clear();
}

}  // namespace xcomposer
