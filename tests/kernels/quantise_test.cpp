#include "kernels/cpu/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/guarded.h"

namespace xcomposer::cpu {
namespace {

double Float16Value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 0x3ff;
  const double magnitude = exponent == 0    ? std::ldexp(fraction, -24)
                           : exponent == 31 ? INFINITY
                                            : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Every float16, the middle between two neighbours (to the even one), and what lies beside it.
TEST(ToFloat16, RoundsToTheNearest) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto stored = static_cast<uint16_t>(bits);
    const auto value = static_cast<float>(Float16Value(stored));
    ASSERT_EQ(ToFloat16(value), stored);
    ASSERT_EQ(ToFloat16(-value), stored | 0x8000);
    const double next = bits == 0x7bff ? 65536.0 : Float16Value(static_cast<uint16_t>(bits + 1));
    const auto middle = static_cast<float>((value + next) / 2);
    ASSERT_EQ(ToFloat16(middle), bits + (bits & 1)) << bits;
    ASSERT_EQ(ToFloat16(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(ToFloat16(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(ToFloat16(1e9f), 0x7c00);
  EXPECT_EQ(ToFloat16(-INFINITY), 0xfc00);
  EXPECT_GT(ToFloat16(std::nanf("")) & 0x7fff, 0x7c00);
}

struct Quantised {
  Quantised(const StoredMatrix& weight, int bits, int64_t group_, int threads = 2,
            Isa isa = BestIsa())
      : packing(bits == 8 ? Packing::kInt8 : Packing::kInt4),
        rows(weight.rows),
        columns(weight.columns),
        group(group_),
        groups((columns + group - 1) / group),
        words(rows * columns * bits / 32, 0xdeadbeefu),
        zeros(groups * rows * bits / 32, 0xdeadbeefu),
        scales(groups * rows) {
    ThreadPool pool(threads);
    loss = Quantise(weight,
                    {.packing = packing,
                     .group = group,
                     .words = words.data(),
                     .zeros = zeros.data(),
                     .scales = scales.data()},
                    {.pool = pool, .isa = isa});
  }

  std::vector<float> Values() const {
    std::vector<float> values(static_cast<size_t>(rows * columns));
    Dequantise({.packing = packing,
                .words = words.data(),
                .zeros = zeros.data(),
                .scales = scales.data(),
                .rows = rows,
                .columns = columns,
                .group = group},
               values.data());
    return values;
  }

  Packing packing;
  int64_t rows, columns, group, groups;
  Guarded<uint32_t> words, zeros;
  Guarded<uint16_t> scales;
  QuantiseLoss loss;
};

struct Shape {
  int64_t rows, columns, group;
};
const Shape kShapes[] = {{16, 8, 8}, {48, 136, 32}, {32, 128, 128}, {80, 200, 64}};

StoredMatrix MatrixOf(const Stored& stored, const Shape& shape) {
  return {.data = stored.data(),
          .format = stored.format(),
          .rows = shape.rows,
          .columns = shape.columns,
          .row_stride = shape.columns};
}

// 8 bits: half a step, the step being the largest magnitude of the group over 127, rounded up by at
// most one unit of float16. 4 bits: a fifteenth of the range (with 0 in it); the chosen range has
// no greater squared error than the plain one, whose error is at most half a step for each value,
// and half a step more where the zero had to be rounded or kept from 0 and 16.
TEST(Quantise, ErrorIsThatOfTheStep) {
  Random random(3);
  for (const int bits : {8, 4}) {
    for (const Format format : {Format::kFloat32, Format::kBfloat16, Format::kFloat16}) {
      for (const Shape& shape : kShapes) {
        const Stored stored(shape.rows * shape.columns, format, random);
        const Quantised quantised(MatrixOf(stored, shape), bits, shape.group);
        const std::vector<float> values = quantised.Values();
        double total = 0;
        double squares = 0;
        for (int64_t n = 0; n < shape.rows; ++n) {
          for (int64_t begin = 0; begin < shape.columns; begin += shape.group) {
            const int64_t end = std::min(shape.columns, begin + shape.group);
            double low = 0, high = 0, error = 0, worst = 0;
            for (int64_t k = begin; k < end; ++k) {
              const double value = stored[n * shape.columns + k];
              const double off = values[static_cast<size_t>(n * shape.columns + k)] - value;
              low = std::min(low, value);
              high = std::max(high, value);
              worst = std::max(worst, std::abs(off));
              error += off * off;
              squares += value * value;
            }
            const double step = bits == 8 ? std::max(high, -low) / 127 : (high - low) / 15;
            const double most = (bits == 8 ? 0.5 : 1.0) * step * 1.002 + std::ldexp(1.0, -24);
            ASSERT_LE(error, static_cast<double>(end - begin) * most * most);
            if (bits == 8) {
              ASSERT_LE(worst, most);
            }
            total += error;
          }
        }
        EXPECT_EQ(quantised.loss.not_finite, 0);
        EXPECT_NEAR(quantised.loss.squared_error, total, 1e-4 * total + 1e-12);
        EXPECT_NEAR(quantised.loss.squares, squares, 1e-9 * squares);
      }
    }
  }
}

/// The squared error of a group of 4-bit codes over the group's range shrunk by `shrink`.
double LossOf(const float* values, int64_t group, float shrink) {
  float low = 0, high = 0;
  for (int64_t i = 0; i < group; ++i) {
    low = std::min(low, shrink * values[i]);
    high = std::max(high, shrink * values[i]);
  }
  const float scale = (high - low) / 15;
  const float zero = std::min(std::max(std::round(-low / scale), 1.0f), 15.0f);
  double loss = 0;
  for (int64_t i = 0; i < group; ++i) {
    const float code = std::min(std::max(std::round(values[i] / scale) + zero, 0.0f), 15.0f);
    loss += std::pow(static_cast<double>(values[i]) - scale * (code - zero), 2);
  }
  return loss;
}

// Values of a few large and many small sizes: a range that leaves the largest out loses less in
// sum. No group may lose more than with its plain range (but for the rounding of the scale to
// float16), and all together hardly more than with the best of a hundred ranges each.
TEST(Quantise, FourBitsBeatThePlainRange) {
  Random random(4);
  constexpr int64_t kRows = 16;
  constexpr int64_t kGroup = 32;
  double ours = 0, plain = 0, best = 0;
  for (int round = 0; round < 100; ++round) {
    Guarded<float> weight(kRows * kGroup);
    for (int64_t i = 0; i < weight.size(); ++i) {
      const float u = random.Value();
      weight[i] = u * u * u;
    }
    const Quantised quantised(
        {.data = weight.data(), .rows = kRows, .columns = kGroup, .row_stride = kGroup}, 4, kGroup,
        1);
    const std::vector<float> values = quantised.Values();
    for (int64_t n = 0; n < kRows; ++n) {
      double loss = 0;
      for (int64_t i = n * kGroup; i < (n + 1) * kGroup; ++i) {
        loss += std::pow(static_cast<double>(values[static_cast<size_t>(i)]) - weight[i], 2);
      }
      const double whole = LossOf(weight.data() + n * kGroup, kGroup, 1.0f);
      ASSERT_LE(loss, 1.01 * whole);
      double least = whole;
      for (int step = 1; step < 100; ++step) {
        least = std::min(least, LossOf(weight.data() + n * kGroup, kGroup, 1 - 0.005f * step));
      }
      ours += loss;
      plain += whole;
      best += least;
    }
  }
  EXPECT_LT(ours, 0.95 * plain);
  EXPECT_LT(ours, 1.05 * best) << "plain " << plain;
}

TEST(Quantise, DependsNeitherOnThreadsNorOnTheInstructionSet) {
  Random random(5);
  for (const Shape& shape : {Shape{80, 136, 32}, Shape{16, 200, 200}, Shape{32, 520, 128}}) {
    const Stored stored(shape.rows * shape.columns, Format::kBfloat16, random);
    for (const int bits : {8, 4}) {
      const Quantised one(MatrixOf(stored, shape), bits, shape.group, 1, Isa::kPortable);
      for (const Isa isa : RunnableIsas()) {
        const Quantised four(MatrixOf(stored, shape), bits, shape.group, 4, isa);
        EXPECT_EQ(one.Values(), four.Values()) << ToString(isa);
        EXPECT_EQ(one.loss.squared_error, four.loss.squared_error);
      }
    }
  }
}

TEST(Quantise, GroupsOfOneSignOfZerosAndOfExtremes) {
  const float kCases[] = {0.0f, 1.0f, -3.0f, 1e-9f, -1e-7f, 3e38f, 65504.0f};
  for (const int bits : {8, 4}) {
    for (const float value : kCases) {
      Guarded<float> weight(16 * 16, value);
      weight[3] = value / 2;
      const Quantised quantised(
          {.data = weight.data(), .rows = 16, .columns = 16, .row_stride = 16}, bits, 16);
      EXPECT_EQ(quantised.loss.not_finite, 0);
      for (const float found : quantised.Values()) {
        ASSERT_TRUE(std::isfinite(found)) << value;
        ASSERT_TRUE(found * value >= 0) << value << " became " << found;
      }
      if (std::abs(value) < 1e6f) {
        ASSERT_NEAR(quantised.Values()[0], value, std::abs(value) / 15 + 1e-7);
      }
    }
  }
}

TEST(Quantise, CountsWhatIsNotFinite) {
  for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
    Guarded<float> weight(16 * 16, 1.0f);
    weight[77] = bad;
    const Quantised quantised({.data = weight.data(), .rows = 16, .columns = 16, .row_stride = 16},
                              4, 16);
    EXPECT_EQ(quantised.loss.not_finite, 1);
  }
}

}  // namespace
}  // namespace xcomposer::cpu
