// How long ranks wait for each other, and who may end that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ranks/rank_group.h"

namespace xcomposer::testing {
namespace {

using ::testing::StartsWith;

class Waiting : public RankGroup {
 protected:
  Waiting() : RankGroup(2) {}
};

TEST_F(Waiting, EndsAfterTheTimeToConnectWhateverTheBoundOfSilence) {
  Set(1, "timeout", "3600");
  Set(1, "connect_timeout", "0.5");
  StartRun({1});
  EXPECT_THAT(EndOf(1), StartsWith("error rank rank=0 ")) << Transcripts();
}

TEST_F(Waiting, EndsAfterTheBoundOfSilenceWhereThereIsNoTimeToConnect) {
  Set(1, "timeout", "0.5");
  Set(1, "connect_timeout", "0");
  StartRun({1});
  EXPECT_THAT(EndOf(1), StartsWith("error rank rank=0 ")) << Transcripts();
}

TEST_F(Waiting, EndsWhereARankIsAskedToEndWhileTheyMeet) {
  for (const int rank : {0, 1}) {
    SCOPED_TRACE(rank);
    Set(rank, "stop", "meeting");
    StartRun({rank});
    EXPECT_THAT(EndOf(rank), StartsWith("error cancelled ")) << Transcripts();
    Set(rank, "stop", "");
  }
  EXPECT_THAT(WholeRun(), StartsWith("ids "));
}

TEST_F(Waiting, EndsForAllWhereARankIsAskedToEndWhileTheyLoad) {
  for (const int rank : {0, 1}) {
    SCOPED_TRACE(rank);
    Set(rank, "stop", "loading");
    StartRun();
    const std::string end = "error cancelled rank=" + std::to_string(rank) + " ";
    for (const int each : {0, 1}) EXPECT_THAT(EndOf(each), StartsWith(end)) << Transcripts();
    Set(rank, "stop", "");
  }
  EXPECT_THAT(WholeRun(), StartsWith("ids "));
}

}  // namespace
}  // namespace xcomposer::testing
