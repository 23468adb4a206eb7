#pragma once

#include <mutex>

#include "kernels/cpu/core_count.h"
#include "kernels/cpu/thread_pool.h"
#include "ops/step_memory.h"

namespace xcomposer {

/// The cores that the CPU stages of this process share. A stage that computes has all of them: two
/// stages side by side would only take each other's cores and caches, and one request at a time
/// would run on a part of the machine.
class CorePool {
 public:
  /// 0: as many threads as this process may use.
  explicit CorePool(int threads) : pool_(threads > 0 ? threads : cpu::UsableCores()) {}

  /// Use of the cores by one thread, waited for.
  class Lease {
   public:
    explicit Lease(CorePool& cores) : lock_(cores.mutex_), scope_(cores.pool_) {}

   private:
    std::lock_guard<std::mutex> lock_;
    cpu::ThreadPoolScope scope_;
    ops::StepMemory memory_;
  };

 private:
  std::mutex mutex_;
  cpu::ThreadPool pool_;
};

}  // namespace xcomposer
