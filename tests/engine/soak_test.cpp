#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/scheduler_fixture.h"

/// Many threads, many kinds of jobs, cancels in between; small enough for the thread sanitizer.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

constexpr int64_t kTableRows = 24;
const ExecutorLimits kLimits{40, 60, 4, 12, 3};

Job RandomJob(std::mt19937* random) {
  const auto below = [&](int n) { return static_cast<int>((*random)() % n); };
  Job job = TextJob({1}, Greedy(1 + below(14)));
  const int words = below(20);
  for (int i = 0; i < words; ++i) job.ids.push_back(below(40));
  job.search.eos_token_id = {2, 12};
  switch (below(5)) {
    case 0:
      job.search.num_beams = 2 + below(3);
      break;
    case 1: {
      job.search.do_sample = true;
      job.search.temperature = 2.0;
      job.search.seed = (*random)();
      break;
    }
    case 2: {
      job.text_path = true;
      job.penalty_ids = job.ids;
      break;
    }
    case 3: {
      const int64_t width = 3 + below(8);
      AppendPicture(&job, TestPicture(width, static_cast<uint8_t>(below(3))), width);
      job.ids.push_back(below(40));
      break;
    }
    default:
      break;
  }
  job.adapter = static_cast<Adapter>(below(3));
  return job;
}

struct Tally {
  std::atomic<int> right{0};
  std::atomic<int> cancelled{0};
};

void OneClient(Scheduler* scheduler, unsigned seed, int jobs, Tally* tally) {
  std::mt19937 random(seed);
  for (int i = 0; i < jobs; ++i) {
    Job job = RandomJob(&random);
    const SearchOutput expected = Expected(job, kLimits, GrowingBase(kTableRows));
    const JobId id = scheduler->Submit(std::move(job));
    const int manner = static_cast<int>(random() % 6);
    if (manner == 0) {
      scheduler->Forget(id);
      ++tally->cancelled;
      continue;
    }
    if (manner == 1) scheduler->Cancel(id);
    const Outcome outcome = WaitFor(*scheduler, id);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    if (outcome.result->finish == JobFinish::kCancelled) {
      ++tally->cancelled;
      continue;
    }
    ASSERT_EQ(outcome.result->output_ids, expected.ids);
    ++tally->right;
  }
}

TEST(Soak, EveryMixGivesEachJobItsOwnIds) {
  constexpr int kClients = 6;
  constexpr int kJobs = 40;
  int64_t features_alive = -1;
  {
    auto executor = std::make_unique<StandInExecutor>(kLimits);
    executor->features_alive = &features_alive;
    SchedulerOptions options = OptionsWithBase(kTableRows);
    options.feature_cache_rows = 20;
    Scheduler scheduler(std::move(executor), options);
    Tally tally;
    std::vector<std::thread> clients;
    for (unsigned client = 0; client < kClients; ++client) {
      clients.emplace_back(OneClient, &scheduler, client, kJobs, &tally);
    }
    std::atomic<bool> over{false};
    std::thread watcher([&] {
      while (!over) {
        const SchedulerStats stats = scheduler.stats();
        ASSERT_GE(stats.free_kv_blocks, 0);
        ASSERT_LE(stats.free_kv_blocks, stats.kv_blocks);
        std::this_thread::yield();
      }
    });
    for (std::thread& client : clients) client.join();
    over = true;
    watcher.join();
    EXPECT_EQ(tally.right + tally.cancelled, kClients * kJobs);
    EXPECT_GT(tally.right, kClients * kJobs / 2);
    scheduler.Shutdown();
    const SchedulerStats stats = scheduler.stats();
    EXPECT_EQ(stats.free_kv_blocks, stats.kv_blocks);
    EXPECT_LE(stats.cached_feature_rows, 20);
    EXPECT_EQ(stats.running + stats.queued, 0);
  }
  EXPECT_EQ(features_alive, 0);
}

}  // namespace
}  // namespace xcomposer
