#include "kernels/cpu/linear_integer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/guarded.h"
#include "kernels/kernel_tables.h"
#include "kernels/linear_check.h"
#include "support/activation_bits.h"

// Quantised weights with rounded rows of x. The rounding is part of the definition: the reference
// rounds the same way, takes the products as integers and only then goes to double.
namespace xcomposer::cpu {
namespace {

struct Shape {
  int64_t rows, outputs, depth, group;
};

// Around every boundary: panels of 16 outputs and three of them; 2, 6 and 16 rows that share a
// loop, several such loops, and with more than 64 or 128 rows panels of 4, 6 and 8; chunks of some
// panels and tasks of 256 outputs; blocks of 32, 64 and 128 inputs, pieces of 256, turns of 512,
// and short last ones; more rows than one block; no inputs at all.
const Shape kShapes[] = {
    {1, 16, 8, 128},      {1, 32, 136, 128},     {2, 1040, 264, 128},  {3, 80, 520, 256},
    {5, 272, 32, 128},    {6, 48, 384, 384},     {7, 64, 640, 128},    {9, 288, 128, 128},
    {13, 16, 776, 256},   {24, 528, 96, 128},    {33, 112, 384, 384},  {270, 32, 264, 128},
    {1, 64, 2048, 128},   {1, 96, 4192, 128},    {2, 2144, 2144, 256}, {3, 288, 4128, 128},
    {4, 1056, 2080, 128}, {4, 32, 4104, 128},    {8, 1104, 392, 128},  {12, 560, 136, 128},
    {16, 48, 1032, 128},  {17, 64, 1032, 128},   {15, 320, 72, 72},    {64, 32, 520, 128},
    {65, 80, 520, 128},   {128, 48, 72, 128},    {129, 16, 8, 128},    {130, 112, 1032, 128},
    {137, 304, 96, 128},  {150, 64, 2056, 2056}, {1, 32, 0, 128},      {20, 32, 0, 128},
    {300, 16, 0, 128},    {11092, 16, 8, 128}};  // the last: blocks of whole panels may be one less

struct IntegerTable {
  std::string name;
  const IsaKernels* kernels = nullptr;
  bool rounds_to_bytes = false;
};

void PrintTo(const IntegerTable& table, std::ostream* out) { *out << table.name; }

/// All that this machine can run, and AVX-VNNI emulated.
std::vector<IntegerTable> IntegerTables() {
  std::vector<IntegerTable> all;
  for (const Isa isa : RunnableIsas()) {
    all.push_back({ToString(isa), &KernelsFor(isa), RoundsToBytes(isa)});
  }
#if defined(__x86_64__)
  if (MayRun(Isa::kAvx2)) all.push_back({"emulated_vnni", &EmulatedVnniKernels(), true});
#endif
  return all;
}

class LinearIntegerTest : public testing::TestWithParam<std::tuple<IntegerTable, Packing>> {
 protected:
  const IntegerTable& table() const { return std::get<0>(GetParam()); }
  const IsaKernels& kernels() const { return *table().kernels; }
  Packing packing() const { return std::get<1>(GetParam()); }
};

struct Case {
  Case(const Shape& s, Packing packing_, Random& random)
      : shape(s),
        packing(packing_),
        groups((s.depth + s.group - 1) / s.group),
        x_stride(s.depth + 5),
        y_stride(s.outputs + 2),
        x(s.rows * x_stride),
        y(s.rows * y_stride),
        words(s.outputs * s.depth * BitsOf(packing) / 32),
        zeros(groups * s.outputs * BitsOf(packing) / 32),
        scales(groups * s.outputs, Format::kFloat16, random),
        bias(s.outputs, Format::kFloat16, random) {
    random.Fill(x);
    random.Fill(y);
    for (int64_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(random.Bits());
    for (int64_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<uint32_t>(random.Bits());
  }

  LinearParams Params() {
    return {.x = x.data(),
            .x_stride = x_stride,
            .rows = shape.rows,
            .weight = PackedMatrix{.packing = packing,
                                   .words = words.data(),
                                   .zeros = zeros.data(),
                                   .scales = scales.data(),
                                   .rows = shape.outputs,
                                   .columns = shape.depth,
                                   .group = shape.group},
            .y = y.data(),
            .y_stride = y_stride};
  }

  int64_t Code(int64_t n, int64_t k) const {
    const int64_t row = n / 16 * (shape.depth / PerWord()) + k / PerWord();
    return Field(words[row * 16 + n % 16], k % PerWord());
  }
  int64_t Zero(int64_t n, int64_t g) const {
    return Field(zeros[Place(n, g) / PerWord()], n % PerWord());
  }
  /// (outputs, depth) codes less their zeros.
  std::vector<int64_t> Integers() const {
    std::vector<int64_t> integers;
    integers.reserve(static_cast<size_t>(shape.outputs * shape.depth));
    for (int64_t n = 0; n < shape.outputs; ++n) {
      for (int64_t k = 0; k < shape.depth; ++k) {
        integers.push_back(Code(n, k) - Zero(n, k / shape.group));
      }
    }
    return integers;
  }
  double Scale(int64_t n, int64_t g) const { return scales[Place(n, g)]; }
  /// Of a number that each group has for each output: (panel, group, output).
  int64_t Place(int64_t n, int64_t g) const { return (n / 16 * groups + g) * 16 + n % 16; }
  int64_t PerWord() const { return 32 / BitsOf(packing); }
  int64_t Field(uint32_t word, int64_t i) const {
    const int bits = BitsOf(packing);
    return word >> (bits * i) & ((1u << bits) - 1);
  }

  Shape shape;
  Packing packing;
  int64_t groups, x_stride, y_stride;
  Guarded<float> x, y;
  Guarded<uint32_t> words, zeros;
  Stored scales, bias;
};

/// How docs/quantisation.md rounds rows of x: inputs of a block, and the largest code.
struct Rounding {
  Rounding(const IntegerTable& table, Packing packing) {
    const bool bytes = packing == Packing::kInt4 || table.rounds_to_bytes;
    block = packing == Packing::kInt4 ? 32 : bytes ? 64 : 128;
    most = bytes ? 127.0f : 32767.0f;
  }
  int64_t block;
  float most;
};

/// A row of x rounded so.
struct Rounded {
  Rounded(const Case& c, int64_t row, const Rounding& rounding)
      : block(rounding.block), codes(static_cast<size_t>(c.shape.depth)) {
    const float most = rounding.most;
    const float* x = c.x.data() + row * c.x_stride;
    for (int64_t k = 0; k < c.shape.depth; k += block) {
      const int64_t end = std::min(c.shape.depth, k + block);
      float magnitude = 0;
      for (int64_t i = k; i < end; ++i) magnitude = std::max(magnitude, std::abs(x[i]));
      const float inverse = magnitude < 1e-30f ? 0.0f : most / magnitude;
      scales.push_back(magnitude < 1e-30f ? 0.0f : magnitude / most);
      for (int64_t i = k; i < end; ++i) {
        codes[static_cast<size_t>(i)] = static_cast<int64_t>(std::nearbyint(x[i] * inverse));
      }
    }
  }
  int64_t block;
  std::vector<int64_t> codes;
  std::vector<float> scales;
};

/// Sums of integers are exact; each block then goes through four roundings (to float, the two
/// scales, the sum) and the whole through three more.
void Expect(const Case& c, const std::vector<float>& before, const LinearParams& params,
            const IntegerTable& table) {
  const Rounding rounding(table, c.packing);
  const auto blocks = (c.shape.depth + rounding.block - 1) / rounding.block;
  std::vector<Rounded> rows;
  for (int64_t t = 0; t < c.shape.rows; ++t) rows.emplace_back(c, t, rounding);
  const int64_t depth = c.shape.depth;
  const std::vector<int64_t> weight = c.Integers();
  ExpectLinear(
      params, c.shape.outputs, c.y, before, c.bias, Gamma(blocks + 7), [&](int64_t t, int64_t n) {
        const Rounded& x = rows[static_cast<size_t>(t)];
        DoubleSum sum;
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t g = b * x.block / c.shape.group;
          const int64_t begin = b * x.block;
          const int64_t end = std::min(depth, begin + x.block);
          const int64_t total = std::inner_product(x.codes.data() + begin, x.codes.data() + end,
                                                   weight.data() + n * depth + begin, int64_t{0});
          sum.Add(static_cast<double>(total) * x.scales[static_cast<size_t>(b)] * c.Scale(n, g));
        }
        return sum;
      });
}

TEST_P(LinearIntegerTest, AgreesWithRoundedReference) {
  Random random(21);
  ThreadPool pool(3);
  for (const Shape& shape : kShapes) {
    for (int variant = 0; variant < 4; ++variant) {
      SCOPED_TRACE(testing::Message()
                   << shape.rows << " x " << shape.outputs << " x " << shape.depth
                   << " in groups of " << shape.group << ", variant " << variant);
      Case c(shape, packing(), random);
      LinearParams params = c.Params();
      if (variant % 2 == 1) params.bias = c.bias.Vector();
      if (variant >= 2) {
        params.accumulate = true;
        params.scale = 2.5f;
      }
      const std::vector<float> before(c.y.data(), c.y.data() + c.y.size());
      Linear(params, pool, kernels());
      Expect(c, before, params, table());
    }
  }
}

// The largest sums that a block can hold, with scales of one: an overflow anywhere would show.
TEST_P(LinearIntegerTest, LargestSumsAreExact) {
  Random random(22);
  ThreadPool pool(2);
  const float most = Rounding(table(), packing()).most;
  for (const uint32_t zero : {0u, 0xffffffffu}) {
    for (const uint32_t word : {0u, 0xffffffffu, 0xff00ff00u, 0x0f0f0f0fu}) {
      for (const auto& [pattern, rows] :
           {std::pair{0, 9}, {1, 9}, {2, 9}, {0, 130}, {1, 130}, {2, 130}}) {
        const int64_t depth = IntegerBlock(packing());
        Case c({rows, 32, depth, depth}, packing(), random);
        const std::vector<uint16_t> ones(32, 0x3c00);
        for (int64_t i = 0; i < c.x.size(); ++i) {
          c.x[i] = pattern == 0 ? most : pattern == 1 ? -most : i % 2 == 0 ? most : -most;
        }
        for (int64_t i = 0; i < c.words.size(); ++i) c.words[i] = word;
        for (int64_t i = 0; i < c.zeros.size(); ++i) c.zeros[i] = zero;
        LinearParams params = c.Params();
        std::get<PackedMatrix>(params.weight).scales = ones.data();
        Linear(params, pool, kernels());
        for (int64_t t = 0; t < c.shape.rows; ++t) {
          for (int64_t n = 0; n < c.shape.outputs; ++n) {
            int64_t total = 0;
            for (int64_t k = 0; k < depth; ++k) {
              total +=
                  (c.Code(n, k) - c.Zero(n, 0)) * static_cast<int64_t>(c.x[t * c.x_stride + k]);
            }
            ASSERT_EQ(c.y[t * c.y_stride + n], static_cast<float>(total));
          }
        }
      }
    }
  }
}

// Decoding, a prompt and any batch give a row the same bits.
TEST_P(LinearIntegerTest, RowDoesNotDependOnTheOthers) {
  Random random(23);
  ThreadPool pool(2);
  for (const auto& [outputs, depth] : {std::pair{80, 392}, {96, 4128}, {80, 4104}}) {
    Case c({140, outputs, depth, 128}, packing(), random);
    Linear(c.Params(), pool, kernels());
    for (const int64_t rows :
         {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 64, 65, 128, 129}) {
      for (int64_t first = 0; first + rows <= c.shape.rows; first += 29) {
        Guarded<float> some(rows * c.shape.outputs);
        LinearParams params = c.Params();
        params.x += first * c.x_stride;
        params.rows = rows;
        params.y = some.data();
        params.y_stride = c.shape.outputs;
        Linear(params, pool, kernels());
        for (int64_t i = 0; i < some.size(); ++i) {
          const int64_t row = first + i / c.shape.outputs;
          ASSERT_EQ(some[i], c.y[row * c.y_stride + i % c.shape.outputs]) << rows << " rows, " << i;
        }
      }
    }
  }
}

TEST_P(LinearIntegerTest, DoesNotDependOnTheThreads) {
  for (const Shape& shape :
       {Shape{3, 2064, 136, 128}, Shape{50, 560, 264, 128}, Shape{150, 560, 264, 128},
        Shape{1, 4192, 4128, 128}, Shape{3, 640, 2080, 128}}) {
    std::vector<float> results[2];
    for (const int threads : {1, 4}) {
      Random random(24);
      Case c(shape, packing(), random);
      ThreadPool pool(threads);
      Linear(c.Params(), pool, kernels());
      results[threads == 1 ? 0 : 1].assign(c.y.data(), c.y.data() + c.y.size());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

/// Of the same packing and few rows in one loop, otherwise one after the other.
TEST_P(LinearIntegerTest, PairIsBothAlone) {
  const Packing other = packing() == Packing::kInt4 ? Packing::kInt8 : Packing::kInt4;
  for (const int64_t rows : {1, 2, 5, 7, 17, 130}) {
    for (const auto& [outputs, packings] :
         {std::pair{96, packing()}, {1120, packing()}, {16, packing()}, {96, other}}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << outputs << " outputs");
      Random random(32);
      Case first({rows, 160, 1056, 128}, packing(), random);
      Case second({rows, outputs, 1056, 128}, packings, random);
      LinearParams params[] = {first.Params(), second.Params()};
      params[1].x = params[0].x;
      params[0].bias = first.bias.Vector();
      params[1].accumulate = true;
      ExpectPairIsBothAlone(params[0], first.y, params[1], second.y, kernels());
    }
  }
}

// What is not finite must not turn into a number; what is too small to matter is zero.
TEST_P(LinearIntegerTest, OddNumbers) {
  Random random(25);
  ThreadPool pool(2);
  Case c({4, 32, 136, 136}, packing(), random);
  c.x[0 * c.x_stride + 17] = std::numeric_limits<float>::quiet_NaN();
  c.x[1 * c.x_stride + 131] = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < c.shape.depth; ++k) {
    c.x[2 * c.x_stride + k] = 0.0f;
    c.x[3 * c.x_stride + k] = 1e-42f;
  }
  Linear(c.Params(), pool, kernels());
  for (int64_t n = 0; n < c.shape.outputs; ++n) {
    EXPECT_TRUE(std::isnan(c.y[n]));
    EXPECT_TRUE(std::isnan(c.y[c.y_stride + n]));
    EXPECT_EQ(c.y[2 * c.y_stride + n], 0.0f);
    EXPECT_EQ(c.y[3 * c.y_stride + n], 0.0f);
  }
}

/// More numbers of x than are rounded at a time: a prompt's rows for the last product of an MLP.
TEST(IntegerKernels, EachTurnHasRowsOfItsOwn) {
  Random random(71);
  Case c({530, 16, 16000, 128}, Packing::kInt8, random);
  ASSERT_GT(c.shape.rows * c.shape.depth, kTurnInputs);
  const auto number = [](int64_t row) { return static_cast<float>(row % 61 + 1); };
  for (int64_t row = 0; row < c.shape.rows; ++row) {
    std::fill_n(c.x.data() + row * c.x_stride, c.shape.depth, number(row));
  }
  ThreadPool pool(2);
  Linear(c.Params(), {.pool = pool});
  const std::vector<int64_t> integers = c.Integers();
  for (int64_t n = 0; n < c.shape.outputs; ++n) {
    double sum = 0;
    double magnitude = 0;
    for (int64_t k = 0; k < c.shape.depth; ++k) {
      const double weight =
          c.Scale(n, k / c.shape.group) *
          static_cast<double>(integers[static_cast<size_t>(n * c.shape.depth + k)]);
      sum += weight;
      magnitude += std::abs(weight);
    }
    // Each block of equal numbers is the largest code times its scale; blocks are added in float32.
    const double budget = magnitude * 200 * std::numeric_limits<float>::epsilon();
    for (int64_t row = 0; row < c.shape.rows; ++row) {
      ASSERT_NEAR(c.y[row * c.y_stride + n], number(row) * sum, number(row) * budget)
          << "row " << row << ", output " << n;
    }
    ASSERT_GT(std::abs(sum), 2 * budget);  // rows are told apart
  }
}

/// What the tier with tiles takes few rows with needs no tiles: the sums of AVX-512 without VNNI.
TEST(IntegerKernels, FewRowsBesideTilesAreThoseOfAvx512) {
  if (BestIsa() < Isa::kAvx512Vnni) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  ThreadPool pool(2);
  for (const Packing packing : {Packing::kInt4, Packing::kInt8}) {
    for (const int64_t rows : {1, 2, 3, 7, 16, 20}) {
      SCOPED_TRACE(testing::Message() << BitsOf(packing) << " bits, " << rows << " rows");
      Random random(33);
      Case c({rows, 96, 1056, 128}, packing, random);
      IsaKernels few = KernelsFor(Isa::kAmx);
      few.special = {};
      Linear(c.Params(), pool, few);
      const std::vector<float> found(c.y.data(), c.y.data() + c.y.size());
      Linear(c.Params(), pool, KernelsFor(Isa::kAvx512));
      EXPECT_EQ(found, std::vector<float>(c.y.data(), c.y.data() + c.y.size()));
    }
  }
}

/// Also on processors that this one is not: nothing is computed.
TEST(IntegerKernels, BlocksFitGroupsAndTilesRoundAlike) {
  for (const Isa isa : kAllIsas) {
    const IsaKernels& kernels = KernelsFor(isa);
    for (const Packing packing : {Packing::kInt4, Packing::kInt8}) {
      SCOPED_TRACE(testing::Message() << ToString(isa) << ", " << BitsOf(packing) << " bits");
      const RoundingKernel& rounding = kernels.integers[IntegerIndex(packing)].many.x;
      const RoundingKernel& tiles = kernels.special.int8.x;
      EXPECT_EQ(IntegerBlock(packing) % rounding.block, 0);
      if (packing != Packing::kInt8 || kernels.special.int8.multiply == nullptr) continue;
      EXPECT_EQ(tiles.block, rounding.block);
      EXPECT_EQ(tiles.most, rounding.most);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, LinearIntegerTest,
                         testing::Combine(testing::ValuesIn(IntegerTables()),
                                          testing::Values(Packing::kInt4, Packing::kInt8)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  (std::get<1>(info.param) == Packing::kInt4 ? "_int4" : "_int8");
                         });

}  // namespace
}  // namespace xcomposer::cpu
