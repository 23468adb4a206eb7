#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/cpu/work_shares.h"

namespace xcomposer::cpu {

/// A fixed set of threads that work off the chunks of one loop at a time. Waiting threads spin for
/// some microseconds and then sleep, and no chunk waits for a certain thread, so that one that has
/// lost its processor to another program delays a loop by no more than the chunk it holds.
///
/// A pool serves one caller at a time: it belongs to the thread that drives an engine's stage.
/// Loops do not nest.
class ThreadPool {
 public:
  /// `threads` counts the caller: a pool of one starts none. Less than one is taken as one.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(begin, end, worker) until [0, count) is covered, each range at most `grain` long,
  /// and returns when all calls have. 0 <= worker < threads(); the caller is worker 0. The first
  /// exception of a body ends the loop early and is thrown here.
  template <typename Body>
  void ParallelFor(int64_t count, int64_t grain, Body&& body) {
    Run(LoopOf(body, count, grain, false));
  }

  /// The same for what is read from memory as it lies: a thread's chunks follow each other, but for
  /// those that it takes over from another. count < 2^32.
  template <typename Body>
  void ParallelRuns(int64_t count, int64_t grain, Body&& body) {
    Run(LoopOf(body, count, grain, true));
  }

  /// Memory for a worker's own use inside a loop, or (SharedScratch) for the caller to hand to all
  /// of them. 64-byte aligned, uninitialised; valid until the next call for the same place; kept
  /// for reuse.
  float* WorkerScratch(int worker, int64_t floats);
  float* SharedScratch(int64_t floats);

  /// Bytes of all scratch memory, which only grows.
  int64_t scratch_bytes() const;

 private:
  struct Loop {
    void (*call)(const void* body, int64_t begin, int64_t end, int worker) = nullptr;
    const void* body = nullptr;
    int64_t count = 0;
    int64_t grain = 1;
    bool runs = false;  ///< chunks come from shares_, not from next_
  };
  struct FreeAligned {
    void operator()(float* memory) const;
  };
  struct Scratch {
    std::unique_ptr<float[], FreeAligned> memory;
    int64_t floats = 0;
  };

  template <typename Body>
  static Loop LoopOf(const Body& body, int64_t count, int64_t grain, bool runs) {
    return {.call = [](const void* self, int64_t begin, int64_t end,
                       int worker) { (*static_cast<const Body*>(self))(begin, end, worker); },
            .body = &body,
            .count = count,
            .grain = grain,
            .runs = runs};
  }
  void Run(const Loop& loop);
  bool TakeChunk(const Loop& loop, int worker, int64_t& begin, int64_t& end);
  void RunChunks(const Loop& loop, int worker);
  void End();
  void WorkerMain(int worker);
  /// Returns when there is a loop (or the end) that is not number `seen`.
  void AwaitLoop(uint64_t seen);
  static float* Grow(Scratch& scratch, int64_t floats);

  std::mutex mutex_;
  std::condition_variable wake_;      // a new loop, or the end
  std::condition_variable finished_;  // the last worker has left a closed loop
  // Written under mutex_; the atomics are also read without it by those who spin.
  Loop loop_;
  bool open_ = false;  // workers may still join loop_
  bool stop_ = false;
  int sleepers_ = 0;
  std::exception_ptr error_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> active_{0};  // workers inside loop_, the caller not counted

  alignas(64) std::atomic<int64_t> next_{0};  // first index not handed out yet
  WorkShares shares_;
  std::vector<Scratch> scratch_;  // one per worker, then the shared one
  std::vector<std::thread> workers_;
};

/// Makes `pool` the one that kernels called from this thread work on, until the scope ends.
class ThreadPoolScope {
 public:
  explicit ThreadPoolScope(ThreadPool& pool);
  ~ThreadPoolScope();
  ThreadPoolScope(const ThreadPoolScope&) = delete;
  ThreadPoolScope& operator=(const ThreadPoolScope&) = delete;

 private:
  ThreadPool* previous_;
};

/// The pool of the innermost scope of this thread, or a pool of one (the thread itself) without a
/// scope.
ThreadPool& CurrentPool();

}  // namespace xcomposer::cpu
