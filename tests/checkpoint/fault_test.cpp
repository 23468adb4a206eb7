#include "checkpoint/fault.h"

#include <gtest/gtest.h>

#include <string>

#include "checkpoint/dtype.h"
#include "checkpoint/fault_list.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {
namespace {

TEST(Fault, MessageAndPlaceNameFileTensorAndByte) {
  try {
    Refuse({.file = "f", .tensor = "t", .part = "header", .offset = 7}, "found ", 1);
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "f: header, byte 7: tensor 't': found 1");
    EXPECT_EQ(error.where(),
              (Error::Where{{"file", "f"}, {"tensor", "t"}, {"part", "header"}, {"offset", "7"}}));
  }
}

TEST(Fault, QuotesWhatATerminalOrJsonCannotTake) {
  EXPECT_EQ(Quoted("wqkv \xe4\xbd\xa0"), "'wqkv \xe4\xbd\xa0'");
  EXPECT_EQ(Quoted("a\x1b[0m\n\x7f"), "'a\\x1b[0m\\x0a\\x7f'");
  EXPECT_EQ(Quoted("\xff\xc3("), "'\\xff\\xc3('");
  EXPECT_EQ(Quoted("\xc2\x9b"), "'\\xc2\\x9b'");
  EXPECT_EQ(Quoted(std::string(300, 'x')), "'" + std::string(200, 'x') + "...'");
}

TEST(FaultList, ListsAThousandAndCountsTheRest) {
  FaultList list("file");
  EXPECT_NO_THROW(list.ThrowIfAny("none"));
  for (int i = 0; i < 1002; ++i) list.Add("t" + std::to_string(i), "is wrong");
  try {
    list.ThrowIfAny("headline");
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("headline (1002):"), std::string::npos);
    EXPECT_NE(text.find("'t999' is wrong"), std::string::npos);
    EXPECT_EQ(text.find("'t1000'"), std::string::npos);
    EXPECT_NE(text.find("and 2 more"), std::string::npos);
    EXPECT_EQ(error.where().at("tensor"), "t0");
  }
}

TEST(TensorEntry, KnowsContiguousLayouts) {
  const auto contiguous = [](std::vector<int64_t> shape, std::vector<int64_t> strides) {
    return TensorEntry{.shape = std::move(shape), .strides = std::move(strides)}.IsContiguous();
  };
  EXPECT_TRUE(contiguous({}, {}));
  EXPECT_TRUE(contiguous({2, 3}, {3, 1}));
  EXPECT_TRUE(contiguous({1, 3}, {77, 1}));
  EXPECT_TRUE(contiguous({0, 3}, {9, 9}));
  EXPECT_FALSE(contiguous({2, 3}, {1, 2}));
  EXPECT_FALSE(contiguous({2, 3}, {4, 1}));
  EXPECT_FALSE(contiguous({2}, {0}));
  EXPECT_EQ(ContiguousStrides({2, 0, 3}), (std::vector<int64_t>{3, 3, 1}));
  EXPECT_EQ(ElementCount({2, 3}), 6);
  EXPECT_EQ(ElementCount({INT64_MAX, 2, 0}), std::nullopt);
  EXPECT_EQ(ElementCount({-1}), std::nullopt);
}

}  // namespace
}  // namespace xcomposer
