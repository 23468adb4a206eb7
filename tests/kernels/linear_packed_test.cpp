#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/guarded.h"
#include "kernels/kernel_tables.h"
#include "kernels/linear_check.h"

namespace xcomposer::cpu {
namespace {

struct Shape {
  int64_t rows, outputs, depth, group;
};

// Around every boundary: vectors of 4, 8, 16 outputs and what is left of them, chunks of 256;
// groups inside, across and beyond the pieces of 192 and 256; a last group that is short; streamed
// and packed.
const Shape kShapes[] = {{1, 8, 8, 8},         {1, 24, 16, 8},      {2, 72, 136, 32},
                         {3, 264, 256, 128},   {4, 40, 64, 128},    {5, 136, 200, 64},
                         {7, 16, 384, 128},    {12, 8, 264, 40},    {16, 520, 128, 32},
                         {1, 1160, 2056, 128}, {6, 296, 1096, 136}, {15, 136, 4104, 4104},
                         {10, 40, 136, 32},    {11, 264, 200, 64},  {17, 8, 264, 128},
                         {33, 104, 392, 64},   {50, 48, 192, 192},  {65, 24, 600, 136},
                         {18, 56, 808, 4104},  {20, 40, 776, 24},   {21, 24, 72, 8}};

/// A random quantised matrix, and the value of each weight as docs/quantisation.md defines it.
struct Quantised {
  Quantised(const Shape& s, Packing packing_, Random& random)
      : packing(packing_),
        shape(s),
        groups((s.depth + s.group - 1) / s.group),
        words(s.outputs * s.depth * BitsOf(packing_) / 32),
        zeros(groups * s.outputs * BitsOf(packing_) / 32),
        scales(groups * s.outputs, Format::kFloat16, random),
        values(static_cast<size_t>(s.outputs * s.depth)) {
    for (int64_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(random.Bits());
    for (int64_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<uint32_t>(random.Bits());
    for (int64_t n = 0; n < s.outputs; ++n) {
      for (int64_t k = 0; k < s.depth; ++k) {
        const int64_t g = k / s.group;
        values[static_cast<size_t>(n * s.depth + k)] =
            scales[g * s.outputs + n] * (Code(n, k) - Zero(n, g));
      }
    }
  }

  int Code(int64_t n, int64_t k) const {
    if (packing == Packing::kGptq4) {
      return static_cast<int>(words[k / 8 * shape.outputs + n] >> (4 * (k % 8)) & 15);
    }
    if (packing == Packing::kGptq8) {
      return static_cast<int>(words[k / 4 * shape.outputs + n] >> (8 * (k % 4)) & 255);
    }
    return AwqField(words[k * (shape.outputs / 8) + n / 8], n % 8);
  }
  int Zero(int64_t n, int64_t g) const {
    if (packing == Packing::kGptq4) {
      return 1 + static_cast<int>(zeros[g * (shape.outputs / 8) + n / 8] >> (4 * (n % 8)) & 15);
    }
    if (packing == Packing::kGptq8) {
      return 1 + static_cast<int>(zeros[g * (shape.outputs / 4) + n / 4] >> (8 * (n % 4)) & 255);
    }
    return AwqField(zeros[g * (shape.outputs / 8) + n / 8], n % 8);
  }
  /// What a weight would be if its zero were added.
  double CodeAndZero(int64_t n, int64_t k) const {
    const int64_t g = k / shape.group;
    return std::abs(scales[g * shape.outputs + n]) * (Code(n, k) + Zero(n, g));
  }
  static int AwqField(uint32_t word, int64_t output) {
    const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble i belongs to output order[i]
    for (int i = 0; i < 8; ++i) {
      if (order[i] == output) return static_cast<int>(word >> (4 * i) & 15);
    }
    return -1;
  }

  PackedMatrix Matrix() const {
    return {.packing = packing,
            .words = words.data(),
            .zeros = zeros.data(),
            .scales = scales.data(),
            .rows = shape.outputs,
            .columns = shape.depth,
            .group = shape.group};
  }

  Packing packing;
  Shape shape;
  int64_t groups;
  Guarded<uint32_t> words, zeros;
  Stored scales;
  std::vector<double> values;  // (outputs, depth)
};

class LinearPackedTest : public testing::TestWithParam<std::tuple<Kernels, Packing>> {
 protected:
  const Kernels& tables() const { return std::get<0>(GetParam()); }
  const IsaKernels& kernels() const { return *tables().kernels; }
  Packing packing() const { return std::get<1>(GetParam()); }
};

struct Case {
  Case(const Shape& s, Packing packing, Random& random)
      : shape(s),
        x_stride(s.depth + 5),
        y_stride(s.outputs + 2),
        x(s.rows * x_stride),
        y(s.rows * y_stride),
        weight(s, packing, random),
        bias(s.outputs, Format::kFloat16, random) {
    random.Fill(x);
    random.Fill(y);
  }

  LinearParams Params() {
    return {.x = x.data(),
            .x_stride = x_stride,
            .rows = shape.rows,
            .weight = weight.Matrix(),
            .y = y.data(),
            .y_stride = y_stride};
  }

  Shape shape;
  int64_t x_stride, y_stride;
  Guarded<float> x, y;
  Quantised weight;
  Stored bias;
};

/// The dequantised weights are exact, so that the budget is that of any sum of K products: each
/// product goes through at most one rounding per input of its group, one per group and three more.
/// Few rows are multiplied with codes, and zeros are taken away after that.
void Expect(const Case& c, const std::vector<float>& before, const LinearParams& params,
            const Kernels& tables) {
  const int64_t roundings =
      std::max(c.shape.depth, std::min(c.shape.depth, c.shape.group) + c.weight.groups) + 4;
  const auto packing = static_cast<size_t>(c.weight.packing);
  const bool few = c.shape.rows <= tables.kernels->packed_panels[packing].few_rows;
  ExpectLinear(
      params, c.shape.outputs, c.y, before, c.bias, Gamma(roundings), [&](int64_t t, int64_t n) {
        DoubleSum sum;
        for (int64_t k = 0; k < c.shape.depth; ++k) {
          const float stored = c.x[t * c.x_stride + k];
          const double x = few ? stored : tables.Counted(stored);
          const double product = x * c.weight.values[static_cast<size_t>(n * c.shape.depth + k)];
          sum.Add(product, few ? std::abs(x) * c.weight.CodeAndZero(n, k) : std::abs(product));
        }
        return sum;
      });
}

TEST_P(LinearPackedTest, AgreesWithDouble) {
  Random random(11);
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
      Expect(c, before, params, tables());
    }
  }
}

TEST_P(LinearPackedTest, DoesNotDependOnTheThreads) {
  for (const Shape& shape : {Shape{3, 1032, 136, 32}, Shape{50, 296, 200, 64}}) {
    std::vector<float> results[2];
    for (const int threads : {1, 4}) {
      Random random(7);
      Case c(shape, packing(), random);
      ThreadPool pool(threads);
      Linear(c.Params(), pool, kernels());
      results[threads == 1 ? 0 : 1].assign(c.y.data(), c.y.data() + c.y.size());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

/// For all counts of rows that are few.
TEST_P(LinearPackedTest, RowDoesNotDependOnItsNeighbours) {
  ThreadPool pool(2);
  const int64_t most = kernels().packed_panels[static_cast<size_t>(packing())].few_rows;
  ASSERT_GE(most, 2);
  Random random(8);
  Case c({most, 72, 104, 32}, packing(), random);
  Guarded<float> alone(c.shape.outputs * most);
  for (int64_t row = 0; row < most; ++row) {
    LinearParams params = c.Params();
    params.x += row * c.x_stride;
    params.rows = 1;
    params.y = alone.data() + row * c.shape.outputs;
    Linear(params, pool, kernels());
  }
  for (int64_t rows = 2; rows <= most; ++rows) {
    LinearParams params = c.Params();
    params.rows = rows;
    Linear(params, pool, kernels());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t n = 0; n < c.shape.outputs; ++n) {
        ASSERT_EQ(alone[row * c.shape.outputs + n], c.y[row * c.y_stride + n])
            << "output " << n << " of row " << row << " of " << rows;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, LinearPackedTest,
                         testing::Combine(testing::ValuesIn(AllKernels()),
                                          testing::Values(Packing::kGptq4, Packing::kGptq8,
                                                          Packing::kAwq4)),
                         [](const auto& info) {
                           const Packing packing = std::get<1>(info.param);
                           return std::get<0>(info.param).name + "_" +
                                  (packing == Packing::kGptq4   ? "gptq4"
                                   : packing == Packing::kGptq8 ? "gptq8"
                                                                : "awq4");
                         });

TEST(Dequantise, IsExact) {
  Random random(12);
  for (const Packing packing : {Packing::kGptq4, Packing::kGptq8, Packing::kAwq4}) {
    for (const Shape& shape : {Shape{0, 24, 264, 128}, Shape{0, 8, 8, 8}, Shape{0, 16, 40, 64}}) {
      const Quantised weight(shape, packing, random);
      Guarded<float> out(shape.outputs * shape.depth);
      Dequantise(weight.Matrix(), out.data());
      for (int64_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i], weight.values[static_cast<size_t>(i)]);
      }
    }
  }
}

}  // namespace
}  // namespace xcomposer::cpu
