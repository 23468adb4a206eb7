#include "pipeline/device_weights.h"

#include <ATen/ops/empty.h>

#include "base/log.h"

namespace xcomposer {
namespace {

// Up to this size a tensor is there at once: layers copy or convert small ones while they are
// built (class and position embeddings, separators).
constexpr size_t kSmallBytes = size_t{4} << 20;

}  // namespace

at::Tensor DeviceWeights::Load(const std::string& name, at::IntArrayRef shape) {
  const at::Tensor host = host_.Take(name, shape);
  at::Tensor device = at::empty(host.sizes(), options_);
  const auto report = std::make_shared<Report>();
  report->name = name;
  report->numbers = host.numel();
  reports_.push_back(report);
  const at::ScalarType type = device.scalar_type();
  if (device.nbytes() <= kSmallBytes) {
    const at::Tensor stored = at::empty(host.sizes(), at::TensorOptions().dtype(type));
    report->counts = Cast(host.const_data_ptr(), host.scalar_type(), stored.mutable_data_ptr(),
                          type, static_cast<size_t>(host.numel()));
    device.copy_(stored);
    return device;
  }
  upload_->Add(device.mutable_data_ptr(), device.nbytes(),
               [this, host, type, report](std::span<std::byte> out, size_t offset) {
                 const size_t first = offset / c10::elementSize(type);
                 const auto* in = static_cast<const std::byte*>(host.const_data_ptr()) +
                                  first * host.element_size();
                 const CastCounts here = Cast(in, host.scalar_type(), out.data(), type,
                                              out.size() / c10::elementSize(type));
                 const std::lock_guard lock(mutex_);
                 report->counts.overflows += here.overflows;
                 report->counts.underflows += here.underflows;
               });
  return device;
}

void DeviceWeights::Finish() {
  upload_->Finish();
  for (const auto& report : reports_) {
    RequireNoOverflow(report->counts, c10::typeMetaToScalarType(options_.dtype()), report->name);
    if (report->counts.underflows == 0) continue;
    log::Warn(report->counts.underflows, " of ", report->numbers, " numbers of ", report->name,
              " are too small for ", options_.dtype().name(), " and became zero");
  }
  reports_.clear();
}

}  // namespace xcomposer
