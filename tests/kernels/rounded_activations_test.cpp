#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/bfloat_case.h"
#include "kernels/cpu/amx_table.h"
#include "kernels/guarded.h"
#include "kernels/kernel_tables.h"
#include "support/emulated_tiles.h"

// Many rows of x that are rounded to bfloat16: by pairs and by tiles, on emulated instructions
// everywhere and on real ones where they are.
namespace xcomposer::cpu {
namespace {

/// All kernels that round x.
std::vector<Kernels> RoundingKernels() {
  static const IsaKernels tiles = [] {
    IsaKernels kernels = KernelsFor(Isa::kPortable);
    kernels.special.bfloat16 = kTileKernels<EmulatedTiles, 1>.bfloat16;
    return kernels;
  }();
  std::vector<Kernels> all = {{"emulated_tiles", &tiles, true}};
  for (const Kernels& kernels : AllKernels()) {
    if (kernels.rounds) all.push_back(kernels);
  }
  return all;
}

class RoundedActivations : public testing::TestWithParam<Kernels> {
 protected:
  const IsaKernels& rounding() const { return *GetParam().kernels; }
  bool takes_pairs() const { return rounding().special.bfloat16.depth_grain == 2; }
};

// Products are exact, so a sum has no more roundings than inputs; three more for scale, bias and y.
TEST_P(RoundedActivations, AgreeWithDouble) {
  Random random(51);
  ThreadPool pool(3);
  // Around a vector, two, a piece of pairs and of tiles, and what is left of each.
  const int64_t depths[] = {34, 62, 64, 66, 96, 382, 384, 386, 512, 514, 770, 1056};
  std::vector<Shape> shapes = {{300, 33, 160}, {17, 200, 544}, {257, 16, 194}, {40, 50, 32}};
  for (int64_t i = 0; i < 54; ++i) shapes.push_back({17 + i, 1 + i * 29 % 101, depths[i % 12]});
  for (int64_t i = 0; i < 100; ++i) shapes.push_back({17 + i * 23 % 54, 1 + i, depths[i % 5]});
  int variant = 0;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Name(shape));
    BfloatCase c(shape, random, variant % 3 * 2);
    LinearParams params = c.Params();
    ++variant;
    if (variant % 2 == 1) params.bias = c.bias.Vector();
    if (variant % 4 >= 2) {
      params.accumulate = true;
      params.scale = 2.5f;
    }
    const std::vector<float> before(c.y.data(), c.y.data() + c.y.size());
    Poison(pool);
    Linear(params, pool, rounding());
    c.Expect(before, params, Gamma(shape.depth + 3), EmulatedPairs::Rounded);
  }
}

// Weights of 1 and 0 show what each number of x counts as, halfway cases included.
TEST_P(RoundedActivations, EachNumberIsTheNearest) {
  Random random(52);
  ThreadPool pool(2);
  const Shape shape{35, 160, 160};
  BfloatCase c(shape, random, 0);
  for (int64_t i = 0; i < c.weight.size(); ++i) c.Set(i, i % c.w_stride == i / c.w_stride ? 1 : 0);
  for (int64_t i = 0; i < c.x.size(); ++i) {
    auto bits = static_cast<uint32_t>(random.Bits());
    bits = (bits & 0x807fffffu) | (20 + bits % 200) << 23;
    if (i % 4 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
    if (i % 4 == 1) bits = (bits & 0xffff0000u) | (i % 8 == 1 ? 0x8001u : 0x7fffu);
    std::memcpy(&c.x[i], &bits, 4);
  }
  Linear(c.Params(), pool, rounding());
  for (int64_t t = 0; t < shape.rows; ++t) {
    for (int64_t n = 0; n < shape.outputs; ++n) {
      ASSERT_EQ(c.y[t * c.y_stride + n], EmulatedPairs::Rounded(c.x[t * c.x_stride + n]))
          << t << ", " << n;
    }
  }
}

TEST_P(RoundedActivations, OddNumbersStayInTheirRow) {
  Random random(53);
  ThreadPool pool(2);
  const Shape shape{20, 50, 200};
  BfloatCase c(shape, random, 2);
  BfloatCase quiet(shape, random, 2);
  std::copy_n(c.weight.data(), c.weight.size(), quiet.weight.data());
  std::copy_n(c.x.data(), c.x.size(), quiet.x.data());
  for (BfloatCase* one : {&c, &quiet}) {
    for (int64_t n = 0; n < shape.outputs; ++n) one->Set(n * one->w_stride + 7, 0.5f);
  }
  c.x[0 * c.x_stride + 199] = std::numeric_limits<float>::quiet_NaN();
  c.x[1 * c.x_stride + 7] = std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < shape.depth; ++k) c.x[2 * c.x_stride + k] = 1e-42f;
  Linear(c.Params(), pool, rounding());
  Linear(quiet.Params(), pool, rounding());
  for (int64_t n = 0; n < shape.outputs; ++n) {
    EXPECT_TRUE(std::isnan(c.y[0 * c.y_stride + n])) << n;
    EXPECT_EQ(c.y[1 * c.y_stride + n], std::numeric_limits<float>::infinity()) << n;
    EXPECT_NEAR(c.y[2 * c.y_stride + n], 0.0f, 1e-37f) << n;
    for (int64_t t = 3; t < shape.rows; ++t) {
      ASSERT_EQ(c.y[t * c.y_stride + n], quiet.y[t * c.y_stride + n]) << t << ", " << n;
    }
  }
}

TEST_P(RoundedActivations, RowDoesNotDependOnTheOthersNorOnThreads) {
  Random random(54);
  ExpectRowsAreAlike(rounding(), 0, random);
}

// Few rows, other weights, and what makes no pairs keep every digit.
TEST_P(RoundedActivations, ElsewhereNothingChanges) {
  Random random(55);
  ThreadPool pool(2);
  const auto rounds = [&](int64_t rows, int64_t depth, int64_t gap, Format format) {
    const Shape shape{rows, 40, depth};
    BfloatCase c(shape, random, gap);
    Stored weight(shape.outputs * c.w_stride, format, random);
    LinearParams params = c.Params();
    params.weight = StoredMatrix{weight.data(), format, shape.outputs, depth, c.w_stride};
    const auto run = [&](const IsaKernels& kernels) {
      Linear(params, pool, kernels);
      return std::vector<float>(c.y.data(), c.y.data() + c.y.size());
    };
    IsaKernels exact = rounding();
    exact.special.bfloat16 = {};
    const std::vector<float> unrounded = run(exact);
    return unrounded != run(rounding());
  };
  const int64_t few = rounding().special.bfloat16.few_rows;
  ASSERT_GT(few, 1);
  EXPECT_TRUE(rounds(few + 1, 160, 0, Format::kBfloat16));
  EXPECT_TRUE(rounds(few + 1, 160, 2, Format::kBfloat16));
  EXPECT_FALSE(rounds(few, 160, 0, Format::kBfloat16));
  EXPECT_FALSE(rounds(1, 160, 0, Format::kBfloat16));
  EXPECT_FALSE(rounds(17, 160, 0, Format::kFloat16));
  EXPECT_FALSE(rounds(17, 160, 0, Format::kFloat32));
  EXPECT_NE(rounds(17, 161, 1, Format::kBfloat16), takes_pairs());
  EXPECT_NE(rounds(17, 160, 1, Format::kBfloat16), takes_pairs());
}

INSTANTIATE_TEST_SUITE_P(, RoundedActivations, testing::ValuesIn(RoundingKernels()),
                         [](const auto& info) { return info.param.name; });

TEST(RoundedActivationsChoice, OnlyWhereTheProcessorHasTheProducts) {
  for (const Isa isa :
       {Isa::kPortable, Isa::kAvx2, Isa::kAvx2Vnni, Isa::kAvx512, Isa::kAvx512Vnni}) {
    EXPECT_FALSE(HasBfloatProducts(isa));
    EXPECT_EQ(&KernelsFor(isa, Activations::kBfloat16), &KernelsFor(isa));
  }
#if defined(__x86_64__)
  EXPECT_EQ(KernelsFor(Isa::kAvx512Bf16).special.bfloat16.multiply, nullptr);
  for (const Isa isa : {Isa::kAvx512Bf16, Isa::kAmx}) {
    EXPECT_TRUE(HasBfloatProducts(isa));
    const PanelKernel& rounding = KernelsFor(isa, Activations::kBfloat16).special.bfloat16;
    ASSERT_NE(rounding.multiply, nullptr);
    EXPECT_EQ(rounding.x_bytes, 2);
    EXPECT_NE(rounding.multiply, KernelsFor(isa).special.bfloat16.multiply);
  }
#endif
}

}  // namespace
}  // namespace xcomposer::cpu
