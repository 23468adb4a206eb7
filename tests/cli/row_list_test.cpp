#include "row_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

using ::testing::ElementsAre;

TEST(RowList, CountsFromBothEnds) {
  EXPECT_THAT(RowList::Parse("0-2,-2--1").Resolve(10), ElementsAre(0, 1, 2, 8, 9));
  EXPECT_THAT(RowList::Parse("-3").Resolve(10), ElementsAre(7));
  EXPECT_THAT(RowList::Parse("8--1").Resolve(10), ElementsAre(8, 9));
}

TEST(RowList, IsAscendingWithoutRepeats) {
  EXPECT_THAT(RowList::Parse("3,0-1,-10").Resolve(10), ElementsAre(0, 1, 3));
}

TEST(RowList, RefusesWhatIsNoList) {
  for (const char* text :
       {"", "a", "1-", "1--", "-", "1,,2", "1-2-3", "0x3", " 1", "99999999999999999999"}) {
    EXPECT_THROW(RowList::Parse(text), Error) << text;
  }
}

TEST(RowList, RefusesRowsOutsideTheSequence) {
  for (const char* text : {"10", "0-10", "-11", "5-4", "-1-0"}) {
    EXPECT_THROW(RowList::Parse(text).Resolve(10), Error) << text;
  }
}

}  // namespace
}  // namespace xcomposer::cli
