#include "api/benchmark_limits.h"

#include <algorithm>

#include "api/free_memory.h"
#include "measure/spread.h"
#include "placement/cluster.h"
#include "xcomposer/devices.h"

namespace xcomposer::api {
namespace {

constexpr std::chrono::seconds kFresh{5};
constexpr int64_t kMostRead = int64_t{1} << 30;
constexpr int64_t kLeastRead = int64_t{64} << 20;

bool IsCpu(const std::string& device) { return device.rfind("cpu", 0) == 0; }

/// The model's name of a CUDA device; empty where it is none of this machine.
std::string ModelOf(const std::string& device) {
  for (const DeviceInfo& known : Machine().devices) {
    if (known.name == device && known.kind == "cuda") return known.model;
  }
  return "";
}

}  // namespace

double BenchmarkLimit::PercentOf(const Work& work, double seconds) const {
  const double amount = of == Of::kBytes ? work.bytes : work.operations;
  if (rates.empty() || rates.back() <= 0 || seconds <= 0) return 0;
  return 100 * amount / rates.back() / seconds;
}

BenchmarkLimits::BenchmarkLimits(const std::vector<std::string>& devices, int threads,
                                 const NarrowProducts& products) {
  if (std::all_of(devices.begin(), devices.end(), IsCpu)) {
    const int64_t quarter = HostMemory().available / 4;
    cpu_ =
        std::make_unique<measure::CpuLimits>(threads, std::clamp(quarter, kLeastRead, kMostRead));
    using Of = BenchmarkLimit::Of;
    using measure::CpuLimits;
    using measure::CpuRates;
    AddMeasured("memory read", "every line, best of 1, 2, 4 and 8 streams per thread", Of::kBytes,
                &CpuRates::read);
    AddMeasured("fp32 fma", CpuLimits::FmaDetail(), Of::kOperations, &CpuRates::fma);
    if (products.int8 && !CpuLimits::Int8DotDetail().empty()) {
      AddMeasured("int8 dot", CpuLimits::Int8DotDetail(), Of::kOperations, &CpuRates::int8_dot);
    }
    if (products.bf16 && !CpuLimits::Bf16DotDetail().empty()) {
      AddMeasured("bf16 dot", CpuLimits::Bf16DotDetail(), Of::kOperations, &CpuRates::bf16_dot);
    }
    return;
  }
  const std::string model = ModelOf(devices.front());
  const bool alike =
      !model.empty() && std::all_of(devices.begin(), devices.end(), [&](const std::string& device) {
        return ModelOf(device) == model;
      });
  if (alike) Know(model);
}

void BenchmarkLimits::AddMeasured(const std::string& name, const std::string& detail,
                                  BenchmarkLimit::Of of, double measure::CpuRates::*source) {
  limits_.push_back({name, detail, of, true, {}, source});
}

void BenchmarkLimits::Know(const std::string& model) {
  const DeviceSpeed speed = SpeedOf("cuda", model);
  if (!speed.known) return;
  const std::string detail = "data sheet of " + model;
  limits_.push_back({"memory", detail, BenchmarkLimit::Of::kBytes, false, {speed.bandwidth}});
  limits_.push_back(
      {"fp16 product", detail, BenchmarkLimit::Of::kOperations, false, {speed.flops}});
}

void BenchmarkLimits::Refresh() {
  if (cpu_ == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  if (measured_at_ && now - *measured_at_ < kFresh) return;
  const measure::CpuRates rates = cpu_->Measure();
  for (BenchmarkLimit& limit : limits_) limit.rates.push_back(rates.*limit.source);
  measured_at_ = std::chrono::steady_clock::now();
}

std::vector<MachineLimit> BenchmarkLimits::Report() const {
  std::vector<MachineLimit> report;
  for (const BenchmarkLimit& limit : limits_) {
    report.push_back({.name = limit.name,
                      .detail = limit.detail,
                      .unit = limit.of == BenchmarkLimit::Of::kBytes ? "B/s" : "op/s",
                      .measured = limit.measured,
                      .rate = measure::SpreadOf(limit.rates)});
  }
  return report;
}

std::vector<size_t> ApplyingLimits(const std::vector<BenchmarkLimit>& limits, const Work& work,
                                   int64_t cache_bytes) {
  std::vector<size_t> applying;
  for (size_t i = 0; i < limits.size(); ++i) {
    const bool is_bytes = limits[i].of == BenchmarkLimit::Of::kBytes;
    if (is_bytes && limits[i].measured && work.bytes < static_cast<double>(cache_bytes)) continue;
    applying.push_back(i);
  }
  return applying;
}

std::optional<LimitShare> BindingShare(const std::vector<LimitShare>& shares,
                                       const std::vector<BenchmarkLimit>& limits) {
  std::optional<LimitShare> bytes;
  std::optional<LimitShare> operations;
  for (const LimitShare& share : shares) {
    const auto limit = std::find_if(limits.begin(), limits.end(), [&](const BenchmarkLimit& known) {
      return known.name == share.limit;
    });
    if (limit == limits.end()) continue;
    if (limit->of == BenchmarkLimit::Of::kBytes) {
      bytes = share;
    } else if (!operations || share.percent.median < operations->percent.median) {
      operations = share;
    }
  }
  if (!bytes) return operations;
  if (!operations) return bytes;
  return bytes->percent.median >= operations->percent.median ? bytes : operations;
}

}  // namespace xcomposer::api
