#include "transport/stage_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> BytesOf(const std::vector<StageShare>& shares) {
  const Payload payload = EncodeShares(shares);
  return {payload.data, payload.data + payload.size};
}

std::string Refusal(const std::vector<std::byte>& bytes, size_t stages) {
  try {
    DecodeShares(bytes, stages);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    return error.what();
  }
  return "accepted";
}

TEST(StageShares, ComeBackAsTheyWere) {
  const std::vector<StageShare> shares = {
      {0, 0}, {10, 1}, {10, int64_t{24} << 30}, {32, std::numeric_limits<int64_t>::max()}};
  EXPECT_EQ(DecodeShares(BytesOf(shares), 4), shares);
  EXPECT_TRUE(DecodeShares(BytesOf({}), 0).empty());
}

TEST(StageShares, EveryCutAndEveryAdditionIsRefused) {
  const std::vector<std::byte> whole = BytesOf({{10, 5}, {32, 6}});
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(Refusal({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)}, 2), "accepted")
        << size;
  }
  std::vector<std::byte> longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_THAT(Refusal(longer, 2), HasSubstr("37 bytes"));
}

TEST(StageShares, AnotherNumberOfStagesIsRefused) {
  const std::vector<std::byte> whole = BytesOf({{10, 5}, {32, 6}});
  for (const size_t stages : {0u, 1u, 3u}) {
    EXPECT_THAT(Refusal(whole, stages), HasSubstr("placed 2 stages"));
  }
  std::vector<std::byte> many(4, std::byte{0xff});
  EXPECT_THAT(Refusal(many, 2), HasSubstr("placed 4294967295 stages"));
}

TEST(StageShares, LayersThatGoBackAndNegativeBytesAreRefused) {
  EXPECT_THAT(Refusal(BytesOf({{10, 5}, {9, 6}}), 2), HasSubstr("stage 1 the layers 10 to 9"));
  EXPECT_THAT(Refusal(BytesOf({{-1, 5}}), 1), HasSubstr("stage 0"));
  EXPECT_THAT(Refusal(BytesOf({{1, -5}}), 1), HasSubstr("-5 bytes"));
}

}  // namespace
}  // namespace xcomposer
