#include "pipeline/storage_cast.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// Every bfloat16 there is.
at::Tensor AllBFloat16() {
  at::Tensor bits = at::empty({1 << 16}, at::kShort);
  for (int i = 0; i < 1 << 16; ++i) bits.data_ptr<int16_t>()[i] = static_cast<int16_t>(i);
  return bits.view(at::kBFloat16);
}

TEST(Cast, BFloat16ToFloat16IsLibTorchsBitForBit) {
  const at::Tensor all = AllBFloat16();
  at::Tensor cast = at::empty({1 << 16}, at::kHalf);
  const CastCounts counts =
      Cast(all.data_ptr(), at::kBFloat16, cast.data_ptr(), at::kHalf, 1 << 16);
  const at::Tensor expected = all.to(at::kHalf);
  const at::Tensor wide = all.to(at::kFloat);
  const at::Tensor numbers = wide.isnan().logical_not();
  EXPECT_TRUE(cast.isnan().equal(wide.isnan()));
  EXPECT_TRUE(at::masked_select(cast.view(at::kShort), numbers)
                  .equal(at::masked_select(expected.view(at::kShort), numbers)));
  EXPECT_EQ(counts.overflows, (wide.isfinite() & expected.isinf()).sum().item<int64_t>());
  EXPECT_EQ(counts.underflows, ((wide != 0) & (expected == 0)).sum().item<int64_t>());
  EXPECT_GT(counts.overflows, 0);
  EXPECT_GT(counts.underflows, 0);
}

TEST(Cast, AllPairsOfTypes) {
  const at::Tensor numbers = at::tensor(std::vector<float>{1.0f, -3.25f, 1e-9f, 1e6f, 0.0f});
  const at::ScalarType types[] = {at::kFloat, at::kBFloat16, at::kHalf};
  for (const at::ScalarType from : types) {
    const at::Tensor in = numbers.to(from);
    for (const at::ScalarType to : types) {
      at::Tensor out = at::empty({5}, to);
      const CastCounts counts = Cast(in.data_ptr(), from, out.data_ptr(), to, 5);
      EXPECT_TRUE(out.equal(in.to(to))) << from << to;
      const bool lossy = to == at::kHalf && from != at::kHalf;
      EXPECT_EQ(counts.overflows, lossy ? 1 : 0) << from << to;
      EXPECT_EQ(counts.underflows, lossy ? 1 : 0) << from << to;
    }
  }
}

TEST(StoredAs, EveryTypeInEveryStorage) {
  // The same number in each of the types.
  const at::Tensor numbers = at::tensor(std::vector<float>{1.0f, -3.25f, 0.0f, 96.0f}).view({2, 2});
  for (const at::ScalarType from : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const at::Tensor weight = numbers.to(from);
    for (const auto& [storage, wanted] : {std::pair{WeightStorage::kAsStored, from},
                                          {WeightStorage::kFloat32, at::kFloat},
                                          {WeightStorage::kFloat16, at::kHalf},
                                          {WeightStorage::kBFloat16, at::kBFloat16}}) {
      CastCounts counts;
      const at::Tensor stored = StoredAs(weight, storage, "w", counts);
      EXPECT_EQ(stored.scalar_type(), wanted) << from;
      EXPECT_TRUE(stored.to(at::kFloat).equal(numbers)) << from << wanted;
      EXPECT_EQ(stored.is_same(weight), wanted == from) << from << wanted;
      EXPECT_EQ(counts.underflows, 0) << from << wanted;
    }
  }
}

TEST(Cast, OverflowNamesTheTensor) {
  RequireNoOverflow({.overflows = 0, .underflows = 7}, at::kHalf, "w");
  try {
    RequireNoOverflow({.overflows = 2, .underflows = 0}, at::kHalf, "model.norm.weight");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("tensor"), "model.norm.weight");
  }
}

}  // namespace
}  // namespace xcomposer
