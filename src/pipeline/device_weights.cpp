#include "pipeline/device_weights.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "base/log.h"

namespace xcomposer {
namespace {

// Of a file's bytes at a time, so that they are converted while they lie in the core's own cache.
constexpr size_t kReadBytes = size_t{256} << 10;

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
  const auto report = std::make_shared<Report>();
  report->name = name;
  report->numbers = device.numel();
  reports_.push_back(report);
  upload_->Add(device.mutable_data_ptr(), device.nbytes(),
               [this, host = std::move(host), report](std::span<std::byte> out, size_t offset) {
                 const CastCounts here = Convert(host, out, offset);
                 const std::lock_guard lock(mutex_);
                 report->counts.overflows += here.overflows;
                 report->counts.underflows += here.underflows;
               });
}

/// Writes what comes to lie in the bytes [offset, offset + out.size()) of the device's tensor.
CastCounts DeviceWeights::Convert(const UnreadTensor& host, std::span<std::byte> out,
                                  size_t offset) const {
  const at::ScalarType type = c10::typeMetaToScalarType(options_.dtype());
  if (host.type == type) {
    host.read(out, offset);
    return {};
  }
  const size_t from_size = c10::elementSize(host.type);
  const size_t to_size = c10::elementSize(type);
  const size_t step = kReadBytes / from_size;  // numbers
  thread_local std::vector<std::byte> read(kReadBytes);
  CastCounts counts;
  for (size_t done = 0; done < out.size(); done += step * to_size) {
    const size_t count = std::min(step, (out.size() - done) / to_size);
    host.read(std::span(read).first(count * from_size), (offset + done) / to_size * from_size);
    const CastCounts here = Cast(read.data(), host.type, out.data() + done, type, count);
    counts.overflows += here.overflows;
    counts.underflows += here.underflows;
  }
  return counts;
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
