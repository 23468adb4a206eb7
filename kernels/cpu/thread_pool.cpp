#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <new>

namespace xcomposer::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};
// Longer than what lies between two loops of a decode step (attention over few keys is no loop: up
// to 65 us where memory is slow), far shorter than a time slice.
constexpr std::chrono::microseconds kSpin{150};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// Spins until `ready` or until spinning has cost enough; returns what `ready` said last.
template <typename Ready>
bool SpinFor(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 8; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

thread_local ThreadPool* current_pool = nullptr;

}  // namespace

void ThreadPool::FreeAligned::operator()(float* memory) const {
  ::operator delete(memory, kAlignment);
}

ThreadPool::ThreadPool(int threads) : shares_(std::max(1, threads)) {
  threads = std::max(1, threads);
  scratch_.resize(static_cast<size_t>(threads) + 1);
  workers_.reserve(static_cast<size_t>(threads) - 1);
  try {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { WorkerMain(worker); });
    }
  } catch (...) {
    End();  // those that did start
    throw;
  }
}

ThreadPool::~ThreadPool() { End(); }

void ThreadPool::End() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(const Loop& loop) {
  if (loop.count <= 0) return;
  if (workers_.empty() || loop.count <= loop.grain) {
    for (int64_t begin = 0; begin < loop.count; begin += loop.grain) {
      loop.call(loop.body, begin, std::min(loop.count, begin + loop.grain), 0);
    }
    return;
  }
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    loop_ = loop;
    error_ = nullptr;
    open_ = true;
    if (loop.runs) {
      shares_.Fill(loop.count);
    } else {
      next_.store(0, std::memory_order_relaxed);
    }
    // Release: whoever sees the new number while spinning finds the loop when it takes the mutex.
    generation_.fetch_add(1, std::memory_order_release);
    wake = sleepers_ > 0;
  }
  if (wake) wake_.notify_all();
  RunChunks(loop, 0);
  {
    std::lock_guard lock(mutex_);
    open_ = false;  // who has not joined by now is not waited for
  }
  // Acquire: what the workers wrote is seen by whoever reads the result.
  const auto left = [this] { return active_.load(std::memory_order_acquire) == 0; };
  if (!SpinFor(left)) {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, left);
  }
  std::exception_ptr error;
  {
    std::lock_guard lock(mutex_);
    std::swap(error, error_);
  }
  if (error) std::rethrow_exception(error);
}

bool ThreadPool::TakeChunk(const Loop& loop, int worker, int64_t& begin, int64_t& end) {
  if (loop.runs) return shares_.Take(worker, loop.grain, begin, end);
  begin = next_.fetch_add(loop.grain, std::memory_order_relaxed);
  end = std::min(loop.count, begin + loop.grain);
  return begin < loop.count;
}

void ThreadPool::RunChunks(const Loop& loop, int worker) {
  try {
    int64_t begin = 0;
    int64_t end = 0;
    while (TakeChunk(loop, worker, begin, end)) loop.call(loop.body, begin, end, worker);
  } catch (...) {
    next_.store(loop.count, std::memory_order_relaxed);
    shares_.Clear();
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::AwaitLoop(uint64_t seen) {
  const auto fresh = [&] { return generation_.load(std::memory_order_acquire) != seen; };
  if (SpinFor(fresh)) return;
  std::unique_lock lock(mutex_);
  ++sleepers_;
  wake_.wait(lock, fresh);
  --sleepers_;
}

void ThreadPool::WorkerMain(int worker) {
  uint64_t seen = 0;
  for (;;) {
    AwaitLoop(seen);
    Loop loop;
    {
      std::lock_guard lock(mutex_);
      if (stop_) return;
      seen = generation_.load(std::memory_order_relaxed);
      if (!open_) continue;
      active_.fetch_add(1, std::memory_order_relaxed);
      loop = loop_;
    }
    RunChunks(loop, worker);
    std::lock_guard lock(mutex_);
    // Release: pairs with the acquire of the caller that waits for zero.
    if (active_.fetch_sub(1, std::memory_order_release) == 1) finished_.notify_one();
  }
}

float* ThreadPool::Grow(Scratch& scratch, int64_t floats) {
  if (scratch.floats < floats) {
    scratch.memory.reset();
    scratch.floats = 0;
    const auto bytes = static_cast<size_t>(floats) * sizeof(float);
    scratch.memory.reset(static_cast<float*>(::operator new(bytes, kAlignment)));
    scratch.floats = floats;
  }
  return scratch.memory.get();
}

float* ThreadPool::WorkerScratch(int worker, int64_t floats) {
  return Grow(scratch_[static_cast<size_t>(worker)], floats);
}

float* ThreadPool::SharedScratch(int64_t floats) { return Grow(scratch_.back(), floats); }

int64_t ThreadPool::scratch_bytes() const {
  int64_t floats = 0;
  for (const Scratch& scratch : scratch_) floats += scratch.floats;
  return floats * static_cast<int64_t>(sizeof(float));
}

ThreadPoolScope::ThreadPoolScope(ThreadPool& pool) : previous_(current_pool) {
  current_pool = &pool;
}

ThreadPoolScope::~ThreadPoolScope() { current_pool = previous_; }

ThreadPool& CurrentPool() {
  thread_local ThreadPool self(1);
  return current_pool != nullptr ? *current_pool : self;
}

}  // namespace xcomposer::cpu
