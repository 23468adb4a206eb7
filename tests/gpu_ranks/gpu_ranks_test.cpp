// Rows between the GPUs of several ranks: who takes which way, that nobody reads them too early,
// and what happens where a way fails. The GPUs only say that they are some.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "gpu_ranks/mailbox_nccl.h"
#include "model/random_weights.h"
#include "pipeline/rank_threads.h"
#include "pipeline/tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

/// As small as a model may be for the CUDA kernels.
ModelConfig SmallModel() {
  ModelConfig config = TinyModel(Kind::kVl7b);
  config.hidden_size = 128;
  config.heads = 2;
  config.kv_heads = 1;
  config.layers = 4;
  return config;
}

class GpuRanks : public testing::Test {
 protected:
  struct Place {
    std::vector<std::string> devices;
    std::vector<int> rank_of_stage;
  };

  PipelineOptions Options() {
    PipelineOptions options;
    options.kv = {.blocks = 64, .block_size = 4};
    options.max_batch_rows = 200;
    options.nccl = [this] { return std::optional(nccl_.Api()); };
    return options;
  }

  RankThreads Ranks(const Place& place) { return Ranks(place, Options()); }
  RankThreads Ranks(const Place& place, const PipelineOptions& options) {
    return RankThreads([] { return std::make_unique<RandomWeights>(7); }, config_,
                       EvenDeviceMap(config_, place.devices), options, place.rank_of_stage);
  }

  /// A prompt with a picture in two pieces, and steps, several in flight.
  std::vector<std::vector<float>> Run(Pipeline& pipeline) {
    const EncodedPicture picture = pipeline.Encode(TinyPicture(config_), "image0", {}, {});
    TinySequence sequence = MakeSequence(picture.rows + 9, picture, {});
    for (int32_t block = 0; block < 16; ++block) sequence.blocks.push_back((block * 7) % 16);
    const int64_t ends[] = {0, 5, picture.rows + 4, picture.rows + 5, picture.rows + 9};
    rows_ = picture.rows + 9;
    for (int i = 0; i < 4; ++i) {
      Batch batch;
      AddSlice(batch, sequence, ends[i], ends[i + 1], config_);
      pipeline.Submit(std::move(batch));
    }
    std::vector<std::vector<float>> scores;
    for (int i = 0; i < 4; ++i) scores.push_back(pipeline.Collect().values);
    pipeline.Release(picture.feature);
    return scores;
  }

  std::vector<std::vector<float>> OnOneCpu() {
    RankThreads one = Ranks({{"cpu"}, {0}});
    return Run(one.pipeline());
  }

  /// Runs it there, and expects the bits of one CPU and that many ways by NCCL.
  void ExpectWays(const Place& place, int ways) { ExpectWays(place, ways, Options()); }
  void ExpectWays(const Place& place, int ways, const PipelineOptions& options) {
    const int made_before = nccl_.communicators_made();
    const size_t moved_before = nccl_.moved();
    RankThreads ranks = Ranks(place, options);
    EXPECT_EQ(Run(ranks.pipeline()), OnOneCpu());
    EXPECT_THAT(ranks.Join(), Each(std::string()));
    EXPECT_EQ(nccl_.communicators_made() - made_before, 2 * ways);
    EXPECT_EQ(nccl_.communicators_alive(), 0);
    const auto bytes = static_cast<size_t>(8 + rows_ * config_.hidden_size * 4);
    EXPECT_EQ(nccl_.moved() - moved_before, static_cast<size_t>(ways) * bytes);
  }

  const ModelConfig config_ = SmallModel();
  MailboxNccl nccl_;
  int64_t rows_ = 0;
};

TEST_F(GpuRanks, RowsBetweenGpusOfRanksTakeNccl) {
  ExpectWays({{"cuda:0", "cuda:1"}, {0, 1}}, 1);
  ExpectWays({{"cuda:0", "cuda:1", "cuda:2"}, {0, 1, 2}}, 2);
  ExpectWays({{"cuda:0", "cuda:1", "cuda:2", "cuda:3"}, {0, 1, 2, 3}}, 3);
}

TEST_F(GpuRanks, BetweenStagesOfARankTheyStayAndTheirRankIsLeftByNccl) {
  ExpectWays({{"cuda:0", "cuda:1", "cuda:2", "cuda:3"}, {0, 0, 1, 1}}, 1);
  ExpectWays({{"cuda:0", "cuda:1", "cuda:1", "cuda:3"}, {0, 1, 1, 2}}, 2);
}

TEST_F(GpuRanks, WhereOneEndIsACpuTheHostCarriesThem) {
  ExpectWays({{"cuda:0", "cpu"}, {0, 1}}, 0);
  ExpectWays({{"cpu", "cuda:0"}, {0, 1}}, 0);
  ExpectWays({{"cuda:0", "cuda:1", "cpu"}, {0, 1, 2}}, 1);
  ExpectWays({{"cuda:0", "cpu", "cuda:1"}, {0, 0, 1}}, 0);
}

TEST_F(GpuRanks, NcclIsNotAskedForTwoRanksOnOneGpu) {
  ExpectWays({{"cuda:0", "cuda:0"}, {0, 1}}, 0);
  ExpectWays({{"cuda:0", "cuda:0", "cuda:1"}, {0, 1, 2}}, 1);
}

TEST_F(GpuRanks, ARankWithoutNcclIsEnoughToDoWithout) {
  std::atomic<int> asked = 0;
  PipelineOptions options = Options();
  options.nccl = [&] { return ++asked == 1 ? std::nullopt : std::optional(nccl_.Api()); };
  ExpectWays({{"cuda:0", "cuda:1"}, {0, 1}}, 0, options);
  EXPECT_EQ(asked, 2);
}

TEST_F(GpuRanks, AWayThatFailsEndsTheRunOnEveryRank) {
  nccl_.FailAfter(2 * 8 + 1);
  RankThreads ranks = Ranks({{"cuda:0", "cuda:1", "cuda:2"}, {0, 1, 2}});
  try {
    Run(ranks.pipeline());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("the mailbox is full"));
    EXPECT_EQ(error.where().count("step"), 1u);
    EXPECT_EQ(error.where().count("peer"), 1u);
  }
  const std::vector<std::string> failures = ranks.Join();
  EXPECT_THAT(failures[1], HasSubstr("the mailbox is full"));
  EXPECT_THAT(failures[2], HasSubstr("the mailbox is full"));
  EXPECT_EQ(nccl_.communicators_alive(), 0);
}

TEST_F(GpuRanks, AWayThatCannotBeOpenedIsSaidWhileLoading) {
  nccl_.FailAfter(0);
  try {
    Ranks({{"cuda:0", "cuda:1"}, {0, 1}});
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport) << error.what();
    EXPECT_EQ(error.where().at("rank"), "0");
    EXPECT_EQ(error.where().at("peer"), "1");
  }
  EXPECT_EQ(nccl_.communicators_alive(), 0);
}

}  // namespace
}  // namespace xcomposer
