#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/bfloat_case.h"
#include "kernels/cpu/amx_table.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/guarded.h"
#include "support/emulated_tiles.h"

// The kernels for Intel's tiles (AMX), on emulated tiles everywhere and on real ones where they
// are.
namespace xcomposer::cpu {
namespace {

/// Kernels with tiles, and others that round x alike: with VNNI it would have 8 bits for int8.
struct Kernels {
  const char* name = "";
  const IsaKernels* with = nullptr;
  const IsaKernels* without = nullptr;
};

std::vector<Kernels> KernelsWithTiles() {
  static const IsaKernels emulated = [] {
    IsaKernels kernels = KernelsFor(Isa::kPortable);
    kernels.special = kTileKernels<EmulatedTiles>;
    return kernels;
  }();
  std::vector<Kernels> all = {{"emulated", &emulated, &KernelsFor(Isa::kPortable)}};
  if (BestIsa() >= Isa::kAmx) {
    all.push_back({"amx", &KernelsFor(Isa::kAmx), &KernelsFor(Isa::kAvx512)});
  }
  return all;
}

class TilesTest : public testing::TestWithParam<Kernels> {
 protected:
  const IsaKernels& with() const { return *GetParam().with; }
  const IsaKernels& without() const { return *GetParam().without; }
};

void PrintTo(const Kernels& kernels, std::ostream* out) { *out << kernels.name; }

/// Error of a sum as a share of the magnitudes, as amx_panels.h derives it: 16 roundings in a step
/// and one for each step and part; three more for scale, bias and sum. The parts of a number are
/// together less than a hundredth larger than it.
double Budget(int64_t depth) {
  const double steps = std::ceil(static_cast<double>(depth) / 32);
  return kUnit * (1.01 * (16 + 3 * steps) + 3);
}

TEST(TileBudget, IsBelowThatOfFloatSumsInAnyOrder) {
  for (int64_t depth = kLeastTileDepth; depth < 20000; ++depth) {
    ASSERT_LE(Budget(depth), Gamma(depth + 3)) << depth;
  }
}

TEST_P(TilesTest, BfloatsAgreeWithDouble) {
  Random random(31);
  ThreadPool pool(3);
  // Every count of rows and outputs around one, two and more tiles; tails of steps and pieces.
  const int64_t depths[] = {33, 63, 64, 160, 511, 512, 513, 1055};
  std::vector<Shape> shapes = {{300, 33, 160}, {17, 200, 544}, {257, 16, 193}, {40, 50, 32}};
  for (int64_t i = 0; i < 54; ++i) shapes.push_back({17 + i, 1 + i * 29 % 70, depths[i % 8]});
  for (int64_t i = 0; i < 70; ++i) shapes.push_back({17 + i * 23 % 54, 1 + i, depths[i % 3]});
  int variant = 0;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Name(shape));
    BfloatCase c(shape, random);
    LinearParams params = c.Params();
    ++variant;
    if (variant % 2 == 1) params.bias = c.bias.Vector();
    if (variant % 4 >= 2) {
      params.accumulate = true;
      params.scale = 2.5f;
    }
    const std::vector<float> before(c.y.data(), c.y.data() + c.y.size());
    Poison(pool);
    Linear(params, pool, with());
    c.Expect(before, params, Budget(shape.depth), [](float x) { return x; });
  }
}

// Weights of 1 and 0 show each number of x by itself: three parts of eight digits hold all of it.
TEST_P(TilesTest, NumbersArriveWhole) {
  Random random(32);
  ThreadPool pool(2);
  const Shape shape{35, 160, 160};
  BfloatCase c(shape, random);
  for (int64_t i = 0; i < c.weight.size(); ++i) c.Set(i, i % c.w_stride == i / c.w_stride ? 1 : 0);
  for (int64_t i = 0; i < c.x.size(); ++i) {
    const auto digits = static_cast<float>(0x800000 | random.Bits() % 0x800000);
    c.x[i] = std::ldexp(i % 3 == 0 ? -digits : digits, static_cast<int>(random.Bits() % 200) - 110);
  }
  Linear(c.Params(), pool, with());
  for (int64_t t = 0; t < shape.rows; ++t) {
    for (int64_t n = 0; n < shape.outputs; ++n) {
      ASSERT_EQ(c.y[t * c.y_stride + n], c.x[t * c.x_stride + n]) << t << ", " << n;
    }
  }
}

TEST_P(TilesTest, OddNumbers) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kMost = std::numeric_limits<float>::max();
  const uint32_t low_bits = 0x7f800001;  // not a number, in its lower half only
  float low_none;
  std::memcpy(&low_none, &low_bits, 4);
  Random random(33);
  ThreadPool pool(2);
  const Shape shape{20, 40, 200};
  BfloatCase c(shape, random);
  for (int64_t n = 0; n < shape.outputs; ++n) {
    c.Set(n * c.w_stride + 7, n % 3 == 0 ? 0.0f : n % 3 == 1 ? 0.5f : -0.5f);
  }
  const auto put = [&](int64_t row, int64_t k, float x) { c.x[row * c.x_stride + k] = x; };
  put(0, 199, std::numeric_limits<float>::quiet_NaN());
  put(1, 0, low_none);
  put(2, 7, kInf);
  put(3, 7, -kInf);
  for (const int64_t row : {4, 5, 6}) {
    for (int64_t k = 0; k < shape.depth; ++k) put(row, k, row == 6 ? 1e-42f : 0.0f);
  }
  put(4, 7, kMost);
  put(5, 7, -3.39e38f);  // the nearest bfloat16 would be infinite
  Linear(c.Params(), pool, with());
  const auto y = [&](int64_t row, int64_t n) { return c.y[row * c.y_stride + n]; };
  for (int64_t n = 0; n < shape.outputs; ++n) {
    const float w = c.Weight(n, 7);
    EXPECT_TRUE(std::isnan(y(0, n))) << n;
    EXPECT_TRUE(std::isnan(y(1, n))) << n;
    if (w == 0) {
      EXPECT_TRUE(std::isnan(y(2, n)) && std::isnan(y(3, n))) << n;
    } else {
      EXPECT_EQ(y(2, n), w * kInf) << n;
      EXPECT_EQ(y(3, n), -w * kInf) << n;
    }
    EXPECT_EQ(y(4, n), w * kMost) << n;
    EXPECT_EQ(y(5, n), w * -3.39e38f) << n;
    EXPECT_NEAR(y(6, n), 0.0f, 1e-37f) << n;
  }
  // The rows beside them are what they are without them.
  BfloatCase quiet = BfloatCase(shape, random);
  std::copy_n(c.weight.data(), c.weight.size(), quiet.weight.data());
  std::copy_n(c.x.data() + 7 * c.x_stride, 13 * c.x_stride, quiet.x.data() + 7 * c.x_stride);
  Linear(quiet.Params(), pool, with());
  for (int64_t t = 7; t < shape.rows; ++t) {
    for (int64_t n = 0; n < shape.outputs; ++n) {
      ASSERT_EQ(y(t, n), quiet.y[t * quiet.y_stride + n]) << t << ", " << n;
    }
  }
}

TEST_P(TilesTest, RowDoesNotDependOnTheOthersNorOnThreads) {
  Random random(34);
  ExpectRowsAreAlike(with(), 3, random);
}

/// x, y and an own weight of 8 bits, groups of `group` inputs.
struct IntegerCase {
  IntegerCase(const Shape& s, int64_t group_, Random& random)
      : shape(s),
        group(group_),
        groups((s.depth + group_ - 1) / group_),
        x(s.rows * (s.depth + 5)),
        words(s.outputs * s.depth / 4),
        zeros(groups * s.outputs / 4),
        scales(groups * s.outputs, Format::kFloat16, random),
        bias(s.outputs, Format::kFloat16, random) {
    random.Fill(x);
    for (int64_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(random.Bits());
    for (int64_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<uint32_t>(random.Bits());
  }

  PackedMatrix Matrix() const {
    return {.packing = Packing::kInt8,
            .words = words.data(),
            .zeros = zeros.data(),
            .scales = scales.data(),
            .rows = shape.outputs,
            .columns = shape.depth,
            .group = group};
  }
  /// y of all rows.
  std::vector<float> Run(ThreadPool& pool, const IsaKernels& kernels, bool all_terms) const {
    const int64_t stride = shape.outputs + 2;
    Guarded<float> y(shape.rows * stride, 0.25f);
    LinearParams params{.x = x.data(),
                        .x_stride = shape.depth + 5,
                        .rows = shape.rows,
                        .weight = Matrix(),
                        .y = y.data(),
                        .y_stride = stride};
    if (all_terms) {
      params.bias = bias.Vector();
      params.accumulate = true;
      params.scale = 2.5f;
    }
    Linear(params, pool, kernels);
    return {y.data(), y.data() + y.size()};
  }

  Shape shape;
  int64_t group, groups;
  Guarded<float> x;
  Guarded<uint32_t> words, zeros;
  Stored scales, bias;
};

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    uint32_t bits[2];
    std::memcpy(&bits[0], &a[i], 4);
    std::memcpy(&bits[1], &b[i], 4);
    ASSERT_EQ(bits[0], bits[1]) << a[i] << " and " << b[i] << " at " << i;
  }
}

TEST_P(TilesTest, IntegersAreThoseOfOtherKernels) {
  Random random(35);
  ThreadPool pool(3);
  // Steps of 64, blocks of 128, pieces of 256 inputs and what is left of each.
  const int64_t depths[] = {8, 56, 64, 72, 120, 128, 136, 192, 200, 264, 1032};
  std::vector<Shape> shapes = {{300, 32, 264}, {17, 304, 136}, {33, 48, 2056}, {20, 80, 4168}};
  for (int64_t i = 0; i < 54; ++i) shapes.push_back({17 + i, 16 + i * 16 % 112, depths[i % 11]});
  int variant = 0;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Name(shape));
    const int64_t groups[] = {128, 256, shape.depth};
    IntegerCase c(shape, groups[++variant % 3], random);
    const bool all_terms = variant % 2 == 1;
    Poison(pool);
    ExpectSameBits(c.Run(pool, with(), all_terms), c.Run(pool, without(), all_terms));
  }
}

// The largest sums that a block can hold, with scales of one: an overflow anywhere would show.
TEST_P(TilesTest, LargestIntegerSumsAreExact) {
  Random random(36);
  ThreadPool pool(2);
  const std::vector<uint16_t> ones(48, 0x3c00);
  for (const uint32_t zero : {0u, 0xffffffffu}) {
    for (const uint32_t word : {0u, 0xffffffffu, 0xff00ff00u, 0x0f0f0f0fu}) {
      for (int pattern = 0; pattern < 3; ++pattern) {
        const Shape shape{19, 48, 128};
        IntegerCase c(shape, 128, random);
        for (int64_t i = 0; i < c.x.size(); ++i) {
          c.x[i] = pattern == 0 || (pattern == 2 && i % 2 == 0) ? 32767.0f : -32767.0f;
        }
        for (int64_t i = 0; i < c.words.size(); ++i) c.words[i] = word;
        for (int64_t i = 0; i < c.zeros.size(); ++i) c.zeros[i] = zero;
        Guarded<float> y(shape.rows * shape.outputs);
        PackedMatrix matrix = c.Matrix();
        matrix.scales = ones.data();
        Linear({.x = c.x.data(),
                .x_stride = shape.depth + 5,
                .rows = shape.rows,
                .weight = matrix,
                .y = y.data(),
                .y_stride = shape.outputs},
               pool, with());
        for (int64_t t = 0; t < shape.rows; ++t) {
          int64_t total = 0;
          for (int64_t k = 0; k < shape.depth; ++k) {
            const int64_t code = word >> (8 * (k % 4)) & 255;
            total += (code - (zero & 255)) * static_cast<int64_t>(c.x[t * (shape.depth + 5) + k]);
          }
          for (int64_t n = 0; n < shape.outputs; ++n) {
            ASSERT_EQ(y[t * shape.outputs + n], static_cast<float>(total));
          }
        }
      }
    }
  }
}

TEST_P(TilesTest, OddIntegers) {
  Random random(37);
  ThreadPool pool(2);
  const Shape shape{18, 48, 136};
  IntegerCase c(shape, 136, random);
  const int64_t stride = shape.depth + 5;
  c.x[0 * stride + 17] = std::numeric_limits<float>::quiet_NaN();
  c.x[1 * stride + 131] = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < shape.depth; ++k) {
    c.x[2 * stride + k] = 0.0f;
    c.x[3 * stride + k] = 1e-42f;
  }
  const std::vector<float> found = c.Run(pool, with(), false);
  const std::vector<float> expected = c.Run(pool, without(), false);
  for (int64_t t = 0; t < shape.rows; ++t) {
    for (int64_t n = 0; n < shape.outputs; ++n) {
      const auto i = static_cast<size_t>(t * (shape.outputs + 2) + n);
      if (t < 2) {
        EXPECT_TRUE(std::isnan(found[i])) << t << ", " << n;
      } else {
        EXPECT_EQ(found[i], expected[i]) << t << ", " << n;
      }
    }
  }
}

int bfloat_calls = 0;
int integer_calls = 0;

// Which products go to the tiles: not one that they are not meant for.
TEST(TileChoice, TakesWhatTilesAreFor) {
  IsaKernels kernels = KernelsFor(Isa::kPortable);
  kernels.special = kTileKernels<EmulatedTiles>;
  kernels.special.bfloat16.multiply = [](const LinearKernelArgs&, const LinearBlock&, float*) {
    ++bfloat_calls;
  };
  kernels.special.int8.multiply = [](const LinearKernelArgs&, const LinearBlock&, float*) {
    ++integer_calls;
  };
  Random random(38);
  ThreadPool pool(1);
  const auto takes_bfloats = [&](int64_t rows, int64_t depth, Format format) {
    BfloatCase c({rows, 8, depth}, random);
    Stored weight(8 * depth, format, random);
    LinearParams params = c.Params();
    params.weight = StoredMatrix{weight.data(), format, 8, depth, depth};
    bfloat_calls = 0;
    Linear(params, pool, kernels);
    return bfloat_calls > 0;
  };
  EXPECT_TRUE(takes_bfloats(17, 32, Format::kBfloat16));
  EXPECT_FALSE(takes_bfloats(16, 32, Format::kBfloat16));
  EXPECT_FALSE(takes_bfloats(17, 31, Format::kBfloat16));
  EXPECT_FALSE(takes_bfloats(17, 160, Format::kFloat16));
  EXPECT_FALSE(takes_bfloats(17, 160, Format::kFloat32));
  const auto takes_integers = [&](int64_t rows, Packing packing) {
    const Shape shape{rows, 16, 128};
    IntegerCase c(shape, 128, random);
    PackedMatrix matrix = c.Matrix();
    matrix.packing = packing;
    Guarded<float> y(rows * 16);
    integer_calls = 0;
    Linear({.x = c.x.data(),
            .x_stride = 133,
            .rows = rows,
            .weight = matrix,
            .y = y.data(),
            .y_stride = 16},
           pool, kernels);
    return integer_calls > 0;
  };
  EXPECT_TRUE(takes_integers(17, Packing::kInt8));
  EXPECT_FALSE(takes_integers(16, Packing::kInt8));
  EXPECT_FALSE(takes_integers(17, Packing::kGptq8));
  EXPECT_FALSE(takes_integers(17, Packing::kInt4));
}

INSTANTIATE_TEST_SUITE_P(, TilesTest, testing::ValuesIn(KernelsWithTiles()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace xcomposer::cpu
