#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

namespace xcomposer::cpu {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 17, 1000}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<int> visits(static_cast<size_t>(count), 0);
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_LT(begin, end);
          EXPECT_LE(end - begin, grain);
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const int visited : visits) ASSERT_EQ(visited, 1);
      }
    }
  }
}

// Many short loops, so that workers come late, sleep and wake; each reads what the one before
// wrote.
TEST(ThreadPool, LoopsSeeEachOthersResults) {
  ThreadPool pool(4);
  std::vector<int64_t> left(64, 0);
  std::vector<int64_t> right(64, 0);
  for (int64_t round = 0; round < 3000; ++round) {
    pool.ParallelFor(64, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        left[static_cast<size_t>(i)] = right[static_cast<size_t>(63 - i)] + 1;
      }
    });
    pool.ParallelFor(64, 1, [&](int64_t begin, int64_t, int) {
      right[static_cast<size_t>(begin)] = left[static_cast<size_t>(63 - begin)];
    });
  }
  for (const int64_t value : right) EXPECT_EQ(value, 3000);
}

TEST(ThreadPool, PassesOnTheException) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.ParallelFor(100, 1,
                                  [](int64_t begin, int64_t, int) {
                                    if (begin == 41) throw std::runtime_error("from a chunk");
                                  }),
                 std::runtime_error);
  }
  std::atomic<int> calls{0};
  pool.ParallelFor(100, 1, [&](int64_t, int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 100);
}

TEST(ThreadPool, ScratchIsAlignedAndKept) {
  ThreadPool pool(2);
  float* shared = pool.SharedScratch(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(shared) % 64, 0u);
  EXPECT_EQ(pool.SharedScratch(50), shared);
  EXPECT_NE(pool.WorkerScratch(0, 10), pool.WorkerScratch(1, 10));
  EXPECT_NE(pool.WorkerScratch(0, 10), shared);
}

TEST(ThreadPool, SeveralPoolsAtOnce) {
  std::vector<std::thread> engines;
  std::atomic<int64_t> sum{0};
  for (int engine = 0; engine < 3; ++engine) {
    engines.emplace_back([&sum] {
      ThreadPool pool(2);
      ThreadPoolScope scope(pool);
      for (int round = 0; round < 200; ++round) {
        CurrentPool().ParallelFor(10, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
      }
    });
  }
  for (std::thread& engine : engines) engine.join();
  EXPECT_EQ(sum, 3 * 200 * 45);
}

TEST(ThreadPoolScope, NestsAndEnds) {
  EXPECT_EQ(CurrentPool().threads(), 1);
  ThreadPool outer(2);
  ThreadPool inner(3);
  {
    ThreadPoolScope a(outer);
    EXPECT_EQ(&CurrentPool(), &outer);
    {
      ThreadPoolScope b(inner);
      EXPECT_EQ(&CurrentPool(), &inner);
    }
    EXPECT_EQ(&CurrentPool(), &outer);
  }
  EXPECT_EQ(CurrentPool().threads(), 1);
}

}  // namespace
}  // namespace xcomposer::cpu
