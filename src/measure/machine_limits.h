#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cpu/thread_pool.h"

namespace xcomposer::measure {

/// What the processors of this machine can do at most with so many threads: bytes or operations per
/// second.
struct CpuRates {
  double read = 0;
  double fma = 0;
  double int8_dot = 0;  ///< 0: no instruction for it
  double bf16_dot = 0;  ///< likewise
};

/// Measures them. Holds the memory that is read, so that measuring again takes a moment only.
class CpuLimits {
 public:
  /// `read_bytes` must be several times the caches. Throws std::bad_alloc.
  CpuLimits(int threads, int64_t read_bytes);

  /// The best of several tries, and for reading over several ways to do it: a limit is what can be
  /// reached. Takes some tenths of a second.
  CpuRates Measure();

  /// What Measure runs; empty where the processor has no instruction for it.
  static std::string FmaDetail();
  static std::string Int8DotDetail();
  static std::string Bf16DotDetail();

 private:
  double ReadRate(int streams);
  /// Of a loop on registers with `per_round` operations a round.
  double RegisterRate(float (*run)(int64_t rounds), double per_round);
  /// Nobody looks at the loops' results; without this the compiler could drop the loops.
  void Keep(uint64_t result) { kept_.fetch_xor(result, std::memory_order_relaxed); }

  cpu::ThreadPool pool_;
  int64_t bytes_;
  std::unique_ptr<char[]> memory_;
  std::atomic<uint64_t> kept_{0};
};

/// Bytes of the last-level cache of the first processor; 0 where the system does not tell.
int64_t LastLevelCache();

}  // namespace xcomposer::measure
