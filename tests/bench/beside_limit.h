#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/cpu/limits.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {

/// What a kernel is held against.
enum class Limit { kRead, kFma, kInteger };

/// Times a kernel and the machine's limit in turns, so that both meet the same noise, and reports
/// the kernel's rate, the limit's, and the share of the limit: of the best rates, and the median
/// share of neighbouring turns.
class BesideLimit {
 public:
  BesideLimit(benchmark::State& state, ThreadPool& pool, Limit limit, double work)
      : state_(state), pool_(pool), limit_(limit), work_(work) {}
  ~BesideLimit();
  BesideLimit(const BesideLimit&) = delete;
  BesideLimit& operator=(const BesideLimit&) = delete;

  /// One iteration.
  template <typename Kernel>
  void Run(const Kernel& kernel) {
    const double limit = LimitRate();
    const auto begin = std::chrono::steady_clock::now();
    kernel();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    state_.SetIterationTime(spent.count());
    limits_.push_back(limit);
    rates_.push_back(work_ / spent.count());
  }

 private:
  double LimitRate();

  benchmark::State& state_;
  ThreadPool& pool_;
  Limit limit_;
  double work_;  // bytes or operations of one iteration
  std::vector<double> limits_;
  std::vector<double> rates_;
};

}  // namespace xcomposer::cpu
