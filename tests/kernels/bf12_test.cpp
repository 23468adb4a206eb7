#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/cpu/amx_table.h"
#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/round_up.h"
#include "kernels/guarded.h"
#include "kernels/kernel_tables.h"
#include "kernels/linear_check.h"
#include "support/emulated_tiles.h"

namespace xcomposer::cpu {
namespace {

uint16_t Bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}

/// About normal, as trained weights are, and not so small that it is an outlier.
float NearNormal(Random& random) {
  float sum = 0;
  for (int i = 0; i < 12; ++i) sum += random.Value();
  return 0.02f * (sum < 0 ? std::min(sum, -1e-3f) : std::max(sum, 1e-3f)) / 2;
}

struct Shape {
  int64_t rows, outputs, depth;
};

/// A bfloat16 weight, as stored and packed.
struct Weights {
  Weights(int64_t outputs, int64_t depth)
      : n(outputs),
        k(depth),
        stored(outputs * depth),
        words(outputs / kBf12Rows * (depth / kBf12Block) * kBf12Rows * kBf12Words),
        scales(outputs) {}

  Weights(int64_t outputs, int64_t depth, Random& random) : Weights(outputs, depth) {
    for (int64_t i = 0; i < stored.size(); ++i) stored[i] = Bfloat16(NearNormal(random));
  }

  StoredMatrix Dense() const {
    return {.data = stored.data(),
            .format = Format::kBfloat16,
            .rows = n,
            .columns = k,
            .row_stride = k};
  }

  bool Pack(int threads = 2) {
    ThreadPool pool(threads);
    std::optional<std::vector<int32_t>> found =
        PackBf12(Dense(), {.words = words.data(), .scales = scales.data()}, {.pool = pool});
    if (!found) return false;
    outliers = *std::move(found);
    return true;
  }

  Bf12Matrix Packed() const {
    return {.words = words.data(),
            .scales = scales.data(),
            .outliers = outliers.data(),
            .rows = n,
            .columns = k};
  }

  int64_t CountOutliers() const {
    return (static_cast<int64_t>(outliers.size()) - n / kBf12Rows - 1) / 2;
  }

  void ExpectUnpacksAsStored() const {
    Guarded<uint16_t> back(n * k);
    UnpackBf12(Packed(), 0, Packed().rows, back.data());
    for (int64_t i = 0; i < n * k; ++i) {
      ASSERT_EQ(back[i], stored[i]) << "output " << i / k << ", input " << i % k;
    }
  }

  int64_t n, k;
  Guarded<uint16_t> stored;
  Guarded<uint32_t> words;
  Guarded<float> scales;
  std::vector<int32_t> outliers;
};

enum class Spread { kEverywhere, kTogether };

/// Numbers that four bits of exponent do not reach, as many as may be: in every place of a block
/// and in each row, or side by side, so that one block has all of them.
void PlantOutliers(Weights& weights, Spread spread = Spread::kEverywhere) {
  const float planted[] = {0.0f, -0.0f, 100.0f, -3e-9f, 1e-30f, -4e4f};
  const int64_t numbers = weights.n * weights.k;
  const int64_t count = numbers / kBf12OutlierShare;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place =
        spread == Spread::kTogether ? numbers / 2 + i : numbers * i / count + i % 97;
    weights.stored[place % numbers] = Bfloat16(planted[i % 6]);
  }
}

TEST(Bf12, OnlyWholePanelsAndBlocksFit) {
  EXPECT_TRUE(FitsBf12(4, 128));
  EXPECT_TRUE(FitsBf12(92544, 4096));
  EXPECT_FALSE(FitsBf12(6, 128));
  EXPECT_FALSE(FitsBf12(4, 64));
  EXPECT_FALSE(FitsBf12(4, 192));
  EXPECT_FALSE(FitsBf12(0, 128));
  EXPECT_FALSE(FitsBf12(4, 0));
  EXPECT_FALSE(FitsBf12(int64_t{1} << 33, 128));  // places of outliers would not fit a word
}

TEST(Bf12, HoldsEveryNumberExactly) {
  Random random(3);
  for (const auto& [n, k] : {std::pair{4, 128}, {8, 256}, {28, 640}, {12, 4096}}) {
    Weights weights(n, k, random);
    PlantOutliers(weights);
    ASSERT_TRUE(weights.Pack());
    EXPECT_EQ(weights.CountOutliers(), n * k / kBf12OutlierShare);
    weights.ExpectUnpacksAsStored();
  }
}

TEST(Bf12, RowsAreUnpackedAlone) {
  Random random(4);
  Weights weights(28, 640, random);
  PlantOutliers(weights);
  ASSERT_TRUE(weights.Pack());
  for (const auto& [first, rows] : {std::pair{0, 4}, {8, 12}, {24, 4}, {4, 0}}) {
    Guarded<uint16_t> back(rows * weights.k);
    UnpackBf12(weights.Packed(), first, rows, back.data());
    for (int64_t i = 0; i < rows * weights.k; ++i) {
      ASSERT_EQ(back[i], weights.stored[first * weights.k + i]) << first << " " << i;
    }
  }
}

/// Of what is not packed tests/pipeline/pack_checkpoint_test.cpp has more, in files.
TEST(Bf12, WhatIsPackedHasNoFault) {
  Random random(5);
  Weights weights(12, 256, random);
  PlantOutliers(weights);
  for (int64_t k = 0; k < 256; ++k) weights.stored[7 * 256 + k] = Bfloat16(2e-38f);
  for (int64_t k = 0; k < 256; ++k) weights.stored[9 * 256 + k] = Bfloat16(3e38f);
  ASSERT_TRUE(weights.Pack());
  const auto words = static_cast<int64_t>(weights.outliers.size());
  EXPECT_EQ(Bf12Fault(weights.Packed(), words), "");
  EXPECT_EQ(Bf12Fault(weights.Packed(), words + 9), "") << "words behind the last are of no use";
  EXPECT_NE(Bf12Fault(weights.Packed(), words - 1), "");
  EXPECT_NE(Bf12Fault(weights.Packed(), 3), "");
  // A number that the row's window holds is none, and no more than one in 512 are.
  const std::vector<int32_t> packed = weights.outliers;
  const auto first = static_cast<size_t>(packed[0]);
  weights.outliers[first + 1] = (112 + 3) << 23;
  EXPECT_NE(Bf12Fault(weights.Packed(), words), "");
  for (const int32_t zeros : {6, 7}) {
    const int32_t end = 4 + 2 * zeros;
    weights.outliers = {4, end, end, end};
    for (int32_t place = 0; place < zeros; ++place)
      weights.outliers.insert(weights.outliers.end(), {place, 0});
    EXPECT_EQ(Bf12Fault(weights.Packed(), end).empty(), zeros == 6) << zeros;
  }
  weights.outliers = packed;
  for (const float scale : {0.0f, -1.0f, 1.5f, 1e-39f, std::ldexp(1.0f, -112), NAN, INFINITY}) {
    const float before = std::exchange(weights.scales[2], scale);
    EXPECT_NE(Bf12Fault(weights.Packed(), words), "") << scale;
    weights.scales[2] = before;
  }
}

/// Sixteen exponents in a row, with every sign and mantissa, have no outliers.
TEST(Bf12, SixteenExponentsArePacked) {
  for (const int least : {1, 100, 239}) {
    Weights weights(4, 4096);
    for (int64_t i = 0; i < weights.stored.size(); ++i) {
      const int64_t exponent = least + i / 256 % 16;
      weights.stored[i] = static_cast<uint16_t>((i & 128) << 8 | exponent << 7 | (i & 127));
    }
    ASSERT_TRUE(weights.Pack()) << least;
    EXPECT_EQ(weights.CountOutliers(), 0) << least;
    weights.ExpectUnpacksAsStored();
  }
}

TEST(Bf12, RowsHaveExponentsOfTheirOwn) {
  Random random(4);
  Weights weights(8, 256, random);
  for (int64_t i = 0; i < weights.stored.size(); ++i) {
    const float factor = std::ldexp(1.0f, static_cast<int>(i / weights.k) * 10 - 40);
    weights.stored[i] = Bfloat16(factor * (1 + std::abs(random.Value())));
  }
  ASSERT_TRUE(weights.Pack());
  EXPECT_EQ(weights.CountOutliers(), 0);
  weights.ExpectUnpacksAsStored();
}

TEST(Bf12, LeavesWhatDoesNotPayAsItIs) {
  Random random(5);
  Weights spread(4, 128);
  for (int64_t i = 0; i < spread.stored.size(); ++i) {
    spread.stored[i] = static_cast<uint16_t>(random.Bits() & 0x7f7f);  // every exponent
  }
  EXPECT_FALSE(spread.Pack());

  // So many may be outliers, and not one more.
  Weights zeros(4, 1024, random);
  for (int64_t i = 0; i < zeros.stored.size(); ++i)
    zeros.stored[i] = Bfloat16(i % kBf12OutlierShare == 0 ? 0 : 1);
  EXPECT_TRUE(zeros.Pack());
  EXPECT_EQ(zeros.CountOutliers(), zeros.stored.size() / kBf12OutlierShare);
  zeros.stored[1] = 0;
  EXPECT_FALSE(zeros.Pack());
}

/// Beside numbers so large, float32 would lose the small one.
TEST(Bf12, LeavesWhatIsNotExactAsItIs) {
  Weights weights(4, 1024);
  for (int64_t i = 0; i < weights.stored.size(); ++i) weights.stored[i] = Bfloat16(1e30f);
  ASSERT_TRUE(weights.Pack());
  weights.stored[77] = 0x0003;  // 3 * 2^-133
  EXPECT_FALSE(weights.Pack());
  for (int64_t i = 0; i < weights.stored.size(); ++i) weights.stored[i] = Bfloat16(1e-30f);
  weights.stored[77] = Bfloat16(1e38f);
  EXPECT_FALSE(weights.Pack());
}

TEST(Bf12, InfinitiesStayAndNaNs) {
  Random random(6);
  Weights weights(4, 1024, random);
  weights.stored[5] = 0x7f80;
  weights.stored[600] = 0xff80;
  weights.stored[1030] = 0x7fc1;
  ASSERT_TRUE(weights.Pack());
  weights.ExpectUnpacksAsStored();
}

TEST(Bf12, DoesNotDependOnTheThreads) {
  Random random(7);
  Weights weights(40, 512, random);
  PlantOutliers(weights);
  ASSERT_TRUE(weights.Pack(1));
  const std::vector<int32_t> outliers = weights.outliers;
  const std::vector<uint32_t> words(weights.words.data(),
                                    weights.words.data() + weights.words.size());
  ASSERT_TRUE(weights.Pack(3));
  EXPECT_EQ(weights.outliers, outliers);
  EXPECT_TRUE(std::equal(words.begin(), words.end(), weights.words.data()));
}

/// Outliers are in ascending order, those of four rows together.
TEST(Bf12, ListsOutliersInOrder) {
  Random random(8);
  Weights weights(12, 640, random);
  // In one block of each four rows, and with later inputs in earlier rows.
  for (int64_t n = 0; n < 12; ++n) weights.stored[n * 640 + 200 - n % 4] = 0;
  ASSERT_TRUE(weights.Pack());
  ASSERT_EQ(weights.outliers[0], 4);
  ASSERT_EQ(weights.outliers[3], static_cast<int32_t>(weights.outliers.size()));
  for (int panel = 0; panel < 3; ++panel) {
    int32_t before = -1;
    for (int32_t i = weights.outliers[panel]; i < weights.outliers[panel + 1]; i += 2) {
      EXPECT_GT(weights.outliers[static_cast<size_t>(i)], before);
      before = weights.outliers[static_cast<size_t>(i)];
    }
    EXPECT_EQ(before, 200 * kBf12Rows);
  }
}

class Bf12Linear : public testing::TestWithParam<Kernels> {
 protected:
  const IsaKernels& kernels() const { return *GetParam().kernels; }
};

struct Product {
  Product(const Shape& s, Random& random)
      : shape(s),
        x_stride(s.depth + 5),
        y_stride(s.outputs + 2),
        x(s.rows * x_stride),
        y(s.rows * y_stride),
        weights(s.outputs, s.depth, random),
        bias(s.outputs, Format::kBfloat16, random) {
    random.Fill(x);
    random.Fill(y);
  }

  LinearParams Params() {
    return {.x = x.data(),
            .x_stride = x_stride,
            .rows = shape.rows,
            .weight = weights.Packed(),
            .y = y.data(),
            .y_stride = y_stride};
  }

  Shape shape;
  int64_t x_stride, y_stride;
  Guarded<float> x, y;
  Weights weights;
  Stored bias;
};

std::vector<float> Numbers(const Guarded<float>& y) { return {y.data(), y.data() + y.size()}; }

/// The same bits as the weight that was packed, whatever becomes of it.
TEST_P(Bf12Linear, IsTheBfloat16Product) {
  Random random(11);
  ThreadPool pool(3);
  std::vector<Shape> shapes = {{1, 4, 128},    {1, 300, 4096}, {2, 52, 4224},  {3, 28, 640},
                               {4, 148, 2048}, {65, 100, 384}, {257, 52, 896}, {300, 60, 128}};
  for (int64_t rows = 1; rows <= 50; ++rows) {
    shapes.push_back({rows, 4 * (1 + rows * 7 % 31), kBf12Block * (1 + rows * 5 % 9)});
  }
  int variant = 0;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.outputs << " x " << shape.depth
                                    << ", variant " << variant);
    Product c(shape, random);
    if (variant % 5 != 0) {
      PlantOutliers(c.weights, variant % 2 == 0 ? Spread::kEverywhere : Spread::kTogether);
    }
    ASSERT_TRUE(c.weights.Pack());
    LinearParams params = c.Params();
    if (variant % 3 == 1) params.bias = c.bias.Vector();
    if (variant % 4 >= 2) {
      params.accumulate = true;
      params.scale = 2.5f;
    }
    ++variant;
    const std::vector<float> before = Numbers(c.y);
    Linear(params, pool, kernels());
    const std::vector<float> packed = Numbers(c.y);
    std::copy(before.begin(), before.end(), c.y.data());
    params.weight = c.weights.Dense();
    Linear(params, pool, kernels());
    ASSERT_EQ(packed, Numbers(c.y));
  }
}

TEST_P(Bf12Linear, AgreesWithDouble) {
  Random random(12);
  ThreadPool pool(2);
  for (const Shape& shape : {Shape{1, 60, 1024}, Shape{9, 28, 256}, Shape{70, 52, 384}}) {
    Product c(shape, random);
    PlantOutliers(c.weights);
    ASSERT_TRUE(c.weights.Pack());
    const LinearParams params = c.Params();
    const std::vector<float> before = Numbers(c.y);
    Linear(params, pool, kernels());
    const bool rounds = GetParam().rounds && shape.rows > kernels().special.bf12.few_rows;
    ExpectLinear(params, shape.outputs, c.y, before, c.bias, Gamma(shape.depth + 3),
                 [&](int64_t t, int64_t n) {
                   DoubleSum sum;
                   for (int64_t k = 0; k < shape.depth; ++k) {
                     const float x = c.x[t * c.x_stride + k];
                     const uint32_t bits =
                         static_cast<uint32_t>(c.weights.stored[n * shape.depth + k]) << 16;
                     float w;
                     std::memcpy(&w, &bits, sizeof(w));
                     sum.Add(static_cast<double>(rounds ? EmulatedPairs::Rounded(x) : x) * w);
                   }
                   return sum;
                 });
  }
}

TEST_P(Bf12Linear, PairIsBothAlone) {
  Random random(13);
  for (const int64_t rows : {1, 2, 4, 7, 28, 40}) {
    Product first({rows, 100, 512}, random);
    Product second({rows, 44, 512}, random);
    PlantOutliers(second.weights);
    ASSERT_TRUE(first.weights.Pack());
    ASSERT_TRUE(second.weights.Pack());
    LinearParams with = second.Params();
    with.x = first.x.data();
    with.x_stride = first.x_stride;
    ExpectPairIsBothAlone(first.Params(), first.y, with, second.y, kernels());
    // One packed, one as stored.
    with.weight = second.weights.Dense();
    ExpectPairIsBothAlone(first.Params(), first.y, with, second.y, kernels());
  }
}

TEST_P(Bf12Linear, DoesNotDependOnTheThreads) {
  for (const Shape& shape : {Shape{1, 300, 512}, Shape{6, 100, 512}, Shape{50, 300, 256}}) {
    std::vector<float> results[2];
    for (const int threads : {1, 4}) {
      Random random(14);
      Product c(shape, random);
      PlantOutliers(c.weights);
      ASSERT_TRUE(c.weights.Pack());
      ThreadPool pool(threads);
      Linear(c.Params(), pool, kernels());
      results[threads == 1 ? 0 : 1] = Numbers(c.y);
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

/// Those that this machine can run, and tiles emulated.
std::vector<Kernels> AllKernelsAndTiles() {
  static const auto with = [](const SpecialKernels& tiles) {
    IsaKernels kernels = KernelsFor(Isa::kPortable);
    kernels.special = tiles;
    return kernels;
  };
  static const IsaKernels tiles = with(kTileKernels<EmulatedTiles>);
  static const IsaKernels rounding = with(kTileKernels<EmulatedTiles, 1>);
  std::vector<Kernels> all = AllKernels();
  all.push_back({"emulated_tiles", &tiles});
  all.push_back({"emulated_tiles_rounding", &rounding, true});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Everywhere, Bf12Linear, testing::ValuesIn(AllKernelsAndTiles()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace xcomposer::cpu
