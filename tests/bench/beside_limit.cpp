#include "bench/beside_limit.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 30;  // beyond every cache
constexpr int64_t kTurnBytes = int64_t{1} << 27;
constexpr int64_t kChunk = int64_t{1} << 20;
constexpr int64_t kRounds = int64_t{1} << 16;  // of one task
constexpr int64_t kTasks = 8;                  // per thread

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// The next part of a memory that is larger than any cache.
const char* NextPart() {
  static const std::vector<char> memory(kReadBytes, 1);
  static int64_t part = 0;
  part = (part + kTurnBytes) % kReadBytes;
  return memory.data() + part;
}

}  // namespace

double BesideLimit::LimitRate() {
  const char* memory = limit_ == Limit::kRead ? NextPart() : nullptr;
  const int64_t tasks = limit_ == Limit::kRead ? kTurnBytes / kChunk : kTasks * pool_.threads();
  const auto begin = std::chrono::steady_clock::now();
  pool_.ParallelFor(tasks, 1, [&](int64_t task, int64_t, int) {
    if (limit_ == Limit::kRead) {
      benchmark::DoNotOptimize(ReadAll(memory + task * kChunk, kChunk));
    } else if (limit_ == Limit::kFma) {
      benchmark::DoNotOptimize(RunFmas(kRounds));
    } else {
      benchmark::DoNotOptimize(RunIntegerDots(kRounds));
    }
  });
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  const double per_task = limit_ == Limit::kRead  ? static_cast<double>(kChunk)
                          : limit_ == Limit::kFma ? kRounds * FlopsPerRound()
                                                  : kRounds * OpsPerIntegerRound();
  return per_task * static_cast<double>(tasks) / spent.count();
}

BesideLimit::~BesideLimit() {
  if (rates_.empty()) return;
  std::vector<double> shares;
  for (size_t i = 0; i < rates_.size(); ++i) shares.push_back(100 * rates_[i] / limits_[i]);
  const double best_limit = *std::max_element(limits_.begin(), limits_.end());
  const double best_rate = *std::max_element(rates_.begin(), rates_.end());
  state_.counters["G/s"] = best_rate * 1e-9;
  state_.counters["limit"] = best_limit * 1e-9;
  state_.counters["best%"] = 100 * best_rate / best_limit;
  state_.counters["median%"] = Median(shares);
}

}  // namespace xcomposer::cpu
