#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cpu/work_shares.h"
#include "support/few_threads.h"

namespace xcomposer::cpu {
namespace {

/// Both ways of handing out chunks.
using Loop = std::function<void(ThreadPool&, int64_t count, int64_t grain,
                                const std::function<void(int64_t, int64_t, int)>&)>;
const Loop kLoops[] = {[](ThreadPool& pool, int64_t count, int64_t grain, const auto& body) {
                         pool.ParallelFor(count, grain, body);
                       },
                       [](ThreadPool& pool, int64_t count, int64_t grain, const auto& body) {
                         pool.ParallelRuns(count, grain, body);
                       }};

TEST(ThreadPool, ThreadsThatCannotBeHadAreAnException) {
  if (!testing::kCanLimitThreads) GTEST_SKIP() << "this build's threads cannot be limited";
  const auto make = [] {
    testing::AllowFewMoreThreads();
    try {
      ThreadPool pool(4000);
    } catch (const std::system_error& error) {
      std::_Exit(error.code() == std::errc::resource_unavailable_try_again ? 7 : 1);
    }
    std::_Exit(2);
  };
  EXPECT_EXIT(make(), ::testing::ExitedWithCode(7), "");
}

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const Loop& loop : kLoops) {
    for (const int threads : {1, 2, 3, 7}) {
      ThreadPool pool(threads);
      EXPECT_EQ(pool.threads(), threads);
      for (const int64_t count : {0, 1, 2, 17, 1000}) {
        for (const int64_t grain : {1, 3, 64, 5000}) {
          std::vector<int> visits(static_cast<size_t>(count), 0);
          loop(pool, count, grain, [&](int64_t begin, int64_t end, int worker) {
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
}

// A thread that has lost its processor keeps no chunk but its own: the others take the rest over.
TEST(ThreadPool, NobodyWaitsForAThreadThatIsHeldUp) {
  for (const Loop& loop : kLoops) {
    ThreadPool pool(3);
    std::atomic<int> others{0};
    std::atomic<bool> held{false};
    loop(pool, 300, 1, [&](int64_t, int64_t, int) {
      if (!held.exchange(true)) {
        while (others < 299) std::this_thread::yield();
        return;
      }
      ++others;
    });
    EXPECT_EQ(others, 299);
  }
}

// Each thread's own indices come in ascending order, chunk after chunk.
TEST(WorkShares, EachThreadWorksItsOwnOffFirst) {
  WorkShares shares(3);
  shares.Fill(10);
  int64_t begin = 0;
  int64_t end = 0;
  const auto take = [&](int thread, int64_t grain) {
    EXPECT_TRUE(shares.Take(thread, grain, begin, end));
    return std::pair(begin, end);
  };
  using Range = std::pair<int64_t, int64_t>;
  EXPECT_EQ(take(1, 2), Range(3, 5));
  EXPECT_EQ(take(0, 2), Range(0, 2));
  EXPECT_EQ(take(1, 2), Range(5, 6));
  EXPECT_EQ(take(1, 9), Range(8, 10));  // the back half of what the next thread has
  EXPECT_EQ(take(1, 9), Range(7, 8));
  EXPECT_EQ(take(1, 9), Range(6, 7));
  EXPECT_EQ(take(2, 9), Range(2, 3));
  for (int thread = 0; thread < 3; ++thread) EXPECT_FALSE(shares.Take(thread, 1, begin, end));
  shares.Fill(1);
  EXPECT_EQ(take(0, 1), Range(0, 1));
  shares.Fill(100);
  shares.Clear();
  EXPECT_FALSE(shares.Take(1, 1, begin, end));
}

TEST(WorkShares, ThreadsThatTakeFromEachOtherMissNothing) {
  constexpr int kThreads = 4;
  WorkShares shares(kThreads);
  for (int round = 0; round < 200; ++round) {
    const int64_t count = 1 + round * 7 % 500;
    shares.Fill(count);
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        int64_t begin = 0;
        int64_t end = 0;
        while (shares.Take(thread, 1 + round % 3, begin, end)) {
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& visited : visits) ASSERT_EQ(visited, 1);
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
  for (const Loop& loop : kLoops) {
    ThreadPool pool(3);
    for (int round = 0; round < 50; ++round) {
      EXPECT_THROW(loop(pool, 100, 1,
                        [](int64_t begin, int64_t, int) {
                          if (begin == 41) throw std::runtime_error("from a chunk");
                        }),
                   std::runtime_error);
    }
    std::atomic<int> calls{0};
    loop(pool, 100, 1, [&](int64_t, int64_t, int) { ++calls; });
    EXPECT_EQ(calls, 100);
  }
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
