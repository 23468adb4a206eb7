#include "measure/spread.h"

#include "gmock/gmock.h"

namespace xcomposer::measure {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SpreadTest, TheMedianIsTheMiddleOne) {
  const Spread spread = SpreadOf({5, 1, 9});
  EXPECT_EQ(spread.median, 5);
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.max, 9);
  EXPECT_EQ(spread.runs, 3);
}

TEST(SpreadTest, TheMedianOfAnEvenNumberIsTheMeanOfTheMiddleTwo) {
  EXPECT_EQ(SpreadOf({8, 1, 2, 100}).median, 5);
  EXPECT_EQ(SpreadOf({2, 1}).median, 1.5);
}

TEST(SpreadTest, NoRunsAreZero) {
  const Spread spread = SpreadOf({});
  EXPECT_EQ(spread.runs, 0);
  EXPECT_EQ(spread.median, 0);
}

TEST(SpreadTest, RatesAreTheAmountOverEachTime) {
  EXPECT_THAT(RatesOf(6, {2, 3}), ElementsAre(3, 2));
  EXPECT_THAT(RatesOf(6, {0}), IsEmpty());
}

}  // namespace
}  // namespace xcomposer::measure
