#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace xcomposer::cpu {

/// The indices of one loop, a share of neighbours for each thread: it works its share off from the
/// front, so that what it reads goes on in memory, and then takes over the back half of what
/// another has left.
class WorkShares {
 public:
  explicit WorkShares(int threads) : shares_(static_cast<size_t>(threads)) {}

  /// Before the loop; 0 <= count < 2^32.
  void Fill(int64_t count) {
    const auto threads = static_cast<int64_t>(shares_.size());
    for (int64_t i = 0; i < threads; ++i) {
      Share(i).store(Range(count * i / threads, count * (i + 1) / threads),
                     std::memory_order_relaxed);
    }
  }

  /// The next at most `grain` indices for this thread; false if none are left for it to take.
  bool Take(int thread, int64_t grain, int64_t& begin, int64_t& end) {
    do {
      uint64_t range = Share(thread).load(std::memory_order_relaxed);
      while (Begin(range) < End(range)) {
        begin = Begin(range);
        end = End(range) - begin < grain ? End(range) : begin + grain;
        if (Share(thread).compare_exchange_weak(range, Range(end, End(range)),
                                                std::memory_order_relaxed)) {
          return true;
        }
      }
    } while (TakeOver(thread));
    return false;
  }

  /// Leaves nothing to take but what a thread is about to take over.
  void Clear() {
    for (auto& share : shares_) share.range.store(0, std::memory_order_relaxed);
  }

 private:
  // A range is one number, so that whoever takes from it sees no half of a change. No range comes
  // twice, since an index that was taken does not come back: a compare and exchange is enough.
  struct alignas(64) Line {
    std::atomic<uint64_t> range{0};
  };

  static uint64_t Range(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
  }
  static int64_t Begin(uint64_t range) { return static_cast<int64_t>(range >> 32); }
  static int64_t End(uint64_t range) { return static_cast<int64_t>(range & 0xffffffffu); }
  std::atomic<uint64_t>& Share(int64_t thread) {
    return shares_[static_cast<size_t>(thread)].range;
  }

  bool TakeOver(int thread) {
    const auto threads = static_cast<int64_t>(shares_.size());
    for (int64_t other = thread + 1; other < thread + threads; ++other) {
      std::atomic<uint64_t>& share = Share(other % threads);
      uint64_t range = share.load(std::memory_order_relaxed);
      while (Begin(range) < End(range)) {
        const int64_t middle = Begin(range) + (End(range) - Begin(range)) / 2;
        if (share.compare_exchange_weak(range, Range(Begin(range), middle),
                                        std::memory_order_relaxed)) {
          Share(thread).store(Range(middle, End(range)), std::memory_order_relaxed);
          return true;
        }
      }
    }
    return false;
  }

  std::vector<Line> shares_;
};

}  // namespace xcomposer::cpu
