#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "measure/machine_limits.h"
#include "placement/time_formula.h"
#include "xcomposer/benchmark.h"

namespace xcomposer::api {

/// A limit of the devices that a benchmark runs on, with all its rates so far.
struct BenchmarkLimit {
  enum class Of { kBytes, kOperations };
  std::string name;
  std::string detail;
  Of of = Of::kBytes;
  bool measured = false;
  std::vector<double> rates;                    ///< bytes or operations per second
  double measure::CpuRates::*source = nullptr;  ///< where a measured one is found

  /// Percent of what the limit allows that so much work in so many seconds is, by the last rate.
  double PercentOf(const Work& work, double seconds) const;
};

/// Products of narrow numbers that kernels of a run may be made of, besides those of float32.
struct NarrowProducts {
  bool int8 = false;  ///< weights are quantised
  bool bf16 = false;  ///< activations are rounded to bfloat16
};

/// The limits in the same minute as the runs.
class BenchmarkLimits {
 public:
  /// `devices` as EngineOptions has them, checked already. Without limits where they differ from
  /// each other.
  BenchmarkLimits(const std::vector<std::string>& devices, int threads,
                  const NarrowProducts& products);

  /// Measures again unless that was a few seconds ago.
  void Refresh();

  const std::vector<BenchmarkLimit>& all() const { return limits_; }
  std::vector<MachineLimit> Report() const;

 private:
  void Know(const std::string& model);
  void AddMeasured(const std::string& name, const std::string& detail, BenchmarkLimit::Of of,
                   double measure::CpuRates::*source);

  std::vector<BenchmarkLimit> limits_;
  std::unique_ptr<measure::CpuLimits> cpu_;
  std::optional<std::chrono::steady_clock::time_point> measured_at_;
};

/// Which of the limits say something about a run's work. Reading from memory is none where what
/// is read stays in a cache of `cache_bytes`.
std::vector<size_t> ApplyingLimits(const std::vector<BenchmarkLimit>& limits, const Work& work,
                                   int64_t cache_bytes);

/// The share that is nearest to its limit; of those that count operations, the fastest way to do
/// them counts. Nothing where `shares` is empty.
std::optional<LimitShare> BindingShare(const std::vector<LimitShare>& shares,
                                       const std::vector<BenchmarkLimit>& limits);

}  // namespace xcomposer::api
