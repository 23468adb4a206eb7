#include "model/join_check.h"

#include <ATen/ops/zeros.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

Error ErrorOf(const at::Tensor& tokens, const at::Tensor& picture, FeatureSpan span) {
  try {
    CheckJoin(tokens, picture, span);
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("the join was accepted");
}

const FeatureSpan kSpan = {.first_row = 2, .row_count = 3, .feature = 1, .feature_row = 1};

TEST(JoinCheck, AcceptsRowsThatFit) {
  EXPECT_NO_THROW(CheckJoin(at::zeros({5, 8}), at::zeros({4, 8}), kSpan));
}

TEST(JoinCheck, EachCheckSaysWhichPartIsWhere) {
  const at::Tensor tokens = at::zeros({5, 8});
  const at::Tensor elsewhere = at::zeros({4, 8}, at::TensorOptions().device(at::kMeta));
  const Error device = ErrorOf(tokens, elsewhere, kSpan);
  EXPECT_EQ(device.kind(), ErrorKind::kPlan);
  EXPECT_EQ(device.where().at("check"), "device");
  EXPECT_EQ(device.where().at("vision_proj"), "meta");
  EXPECT_EQ(device.where().at("model.tok_embeddings"), "cpu");
  EXPECT_THAT(device.what(), HasSubstr("on meta"));

  const Error type = ErrorOf(tokens, at::zeros({4, 8}, at::kHalf), kSpan);
  EXPECT_EQ(type.kind(), ErrorKind::kConfig);
  EXPECT_EQ(type.where().at("check"), "type");
  EXPECT_THAT(type.what(), HasSubstr("Half"));

  const Error width = ErrorOf(tokens, at::zeros({4, 9}), kSpan);
  EXPECT_EQ(width.kind(), ErrorKind::kConfig);
  EXPECT_EQ(width.where().at("check"), "width");
  EXPECT_THAT(width.what(), HasSubstr("[4, 9]"));
  EXPECT_EQ(ErrorOf(tokens, at::zeros({32}), kSpan).where().at("check"), "width");
}

TEST(JoinCheck, CountsRowsOnBothSides) {
  const at::Tensor tokens = at::zeros({5, 8});
  const at::Tensor picture = at::zeros({4, 8});
  for (const FeatureSpan& span :
       {FeatureSpan{2, 4, 1, 0}, FeatureSpan{2, 3, 1, 2}, FeatureSpan{0, 5, 1, 0},
        FeatureSpan{-1, 2, 1, 0}, FeatureSpan{0, 2, 1, -1}, FeatureSpan{0, 0, 1, 0},
        FeatureSpan{2, INT64_MAX, 1, 1}}) {
    const Error error = ErrorOf(tokens, picture, span);
    EXPECT_EQ(error.kind(), ErrorKind::kRequest);
    EXPECT_EQ(error.where().at("check"), "count");
  }
}

}  // namespace
}  // namespace xcomposer
