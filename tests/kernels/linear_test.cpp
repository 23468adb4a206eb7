#include "kernels/cpu/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <tuple>
#include <variant>
#include <vector>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/round_up.h"
#include "kernels/guarded.h"
#include "kernels/linear_check.h"

namespace xcomposer::cpu {
namespace {

struct Shape {
  int64_t rows, outputs, depth;
};

// Around every boundary: vectors of 4, 8, 16; panels of 4, 6, 8 rows and 8, 16, 48 columns; pieces
// of 192, 512 and 1024, stripes of 24; streamed and packed; more rows than one block.
const Shape kShapes[] = {
    {1, 1, 1},       {1, 3, 17},    {1, 65, 99},   {1, 70, 4200}, {2, 19, 257},  {3, 17, 65},
    {4, 5, 64},      {5, 33, 31},   {7, 99, 130},  {12, 50, 200}, {13, 49, 193}, {17, 1, 257},
    {19, 65, 19},    {24, 48, 192}, {33, 97, 385}, {65, 17, 3},   {99, 130, 99}, {400, 20, 7},
    {257, 100, 300}, {3, 25, 2080}, {6, 50, 1030}, {8, 26, 545},  {40, 49, 577}, {41, 49, 577}};

TEST(EqualBlocks, NoneIsEmpty) {
  for (const int64_t panel : {1, 3, 4, 5, 6, 7, 8, 16, 32}) {
    for (int64_t rows = 1; rows < 30000; rows += rows < 600 ? 1 : 13) {
      const EqualBlocks blocks(rows, 256, panel);
      ASSERT_EQ(blocks.rows % panel, 0);
      ASSERT_LT((blocks.count - 1) * blocks.rows, rows) << panel;
      ASSERT_GE(blocks.count * blocks.rows, rows) << panel;
    }
  }
}

class LinearTest : public testing::TestWithParam<std::tuple<Isa, Format>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  Format format() const { return std::get<1>(GetParam()); }
};

struct Case {
  Case(const Shape& s, Format format, Random& random)
      : shape(s),
        x_stride(s.depth + 5),
        w_stride(s.depth + 3),
        y_stride(s.outputs + 2),
        x(s.rows * x_stride),
        y(s.rows * y_stride),
        weight(s.outputs * w_stride, format, random),
        bias(s.outputs, format, random) {
    random.Fill(x);
    random.Fill(y);
  }

  LinearParams Params() {
    return {.x = x.data(),
            .x_stride = x_stride,
            .rows = shape.rows,
            .weight = StoredMatrix{.data = weight.data(),
                                   .format = weight.format(),
                                   .rows = shape.outputs,
                                   .columns = shape.depth,
                                   .row_stride = w_stride},
            .y = y.data(),
            .y_stride = y_stride};
  }

  Shape shape;
  int64_t x_stride, w_stride, y_stride;
  Guarded<float> x, y;
  Stored weight, bias;
};

/// Compares with sums in double. A sum of K products and up to three more terms is off by at most
/// Gamma(K + 3) times the sum of the magnitudes, in whatever order it was taken.
void Expect(const Case& c, const std::vector<float>& before, const LinearParams& params) {
  ExpectLinear(params, c.shape.outputs, c.y, before, c.bias, Gamma(c.shape.depth + 3),
               [&](int64_t t, int64_t n) {
                 DoubleSum sum;
                 for (int64_t k = 0; k < c.shape.depth; ++k) {
                   sum.Add(c.x[t * c.x_stride + k] * c.weight[n * c.w_stride + k]);
                 }
                 return sum;
               });
}

TEST_P(LinearTest, AgreesWithDouble) {
  Random random(1);
  ThreadPool pool(3);
  for (const Shape& shape : kShapes) {
    for (int variant = 0; variant < 4; ++variant) {
      SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.outputs << " x "
                                      << shape.depth << ", variant " << variant);
      Case c(shape, format(), random);
      LinearParams params = c.Params();
      if (variant % 2 == 1) params.bias = c.bias.Vector();
      if (variant >= 2) {
        params.accumulate = true;
        params.scale = 2.5f;
      }
      const std::vector<float> before(c.y.data(), c.y.data() + c.y.size());
      Linear(params, {.pool = pool, .isa = isa()});
      Expect(c, before, params);
    }
  }
}

TEST_P(LinearTest, DoesNotDependOnTheThreads) {
  for (const Shape& shape : {Shape{3, 300, 130}, Shape{50, 300, 200}}) {
    std::vector<float> results[2];
    for (const int threads : {1, 4}) {
      Random random(7);
      Case c(shape, format(), random);
      ThreadPool pool(threads);
      Linear(c.Params(), {.pool = pool, .isa = isa()});
      results[threads == 1 ? 0 : 1].assign(c.y.data(), c.y.data() + c.y.size());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

/// For all counts of rows that are few.
TEST_P(LinearTest, RowDoesNotDependOnItsNeighbours) {
  ThreadPool pool(2);
  const Context context{.pool = pool, .isa = isa()};
  const IsaKernels& kernels = KernelsFor(isa());
  int64_t most = kernels.linear_panels[static_cast<size_t>(format())].few_rows;
  if (format() == Format::kBfloat16 && kernels.special.bfloat16.multiply != nullptr) {
    most = std::min(most, kernels.special.bfloat16.few_rows);  // more go to the tiles
  }
  ASSERT_GE(most, 2);
  // Of which one, two, or up to four rows are few enough for one stream.
  for (const int64_t depth : {99, 1120, 3000, 4200}) {
    Random random(8);
    Case c({most, depth > 2000 ? 26 : 70, depth}, format(), random);
    Guarded<float> alone(c.shape.outputs * most);
    for (int64_t row = 0; row < most; ++row) {
      LinearParams params = c.Params();
      params.x += row * c.x_stride;
      params.rows = 1;
      params.y = alone.data() + row * c.shape.outputs;
      Linear(params, context);
    }
    for (int64_t rows = 2; rows <= most; ++rows) {
      LinearParams params = c.Params();
      params.rows = rows;
      Linear(params, context);
      for (int64_t i = 0; i < rows * c.shape.outputs; ++i) {
        const int64_t row = i / c.shape.outputs;
        const int64_t n = i % c.shape.outputs;
        ASSERT_EQ(alone[i], c.y[row * c.y_stride + n])
            << depth << " inputs, row " << row << " of " << rows << ", output " << n;
      }
    }
  }
}

/// Few rows share a loop, more do not; the second weight may have other sizes and another type.
TEST_P(LinearTest, PairIsBothAlone) {
  Random random(9);
  for (const int64_t rows : {0, 1, 2, 4, 7, 24, 41}) {
    for (const int64_t depth : {0, 33, 600}) {
      for (const int64_t outputs : {1, 70, 700}) {
        for (const Format other : {format(), Format::kFloat32}) {
          SCOPED_TRACE(testing::Message()
                       << rows << " rows, " << outputs << " outputs, " << depth << " inputs");
          Case first({rows, 70, depth}, format(), random);
          Case second({rows, outputs, depth}, other, random);
          LinearParams params[] = {first.Params(), second.Params()};
          params[1].x = params[0].x;
          params[1].accumulate = true;
          if (outputs == 1) params[0].bias = first.bias.Vector();
          ExpectPairIsBothAlone(params[0], first.y, params[1], second.y, KernelsFor(isa()));
        }
      }
    }
  }
}

/// A copy of a weight that begins `shift` bytes after a line of memory does and ends with its
/// memory.
class ShiftedCopy {
 public:
  ShiftedCopy(const void* data, int64_t bytes, int64_t shift)
      : memory_(static_cast<char*>(
            ::operator new (static_cast<size_t>(shift + bytes), std::align_val_t{64}))),
        shift_(shift) {
    std::memset(memory_.get(), 0xff, static_cast<size_t>(shift));  // no numbers
    std::memcpy(memory_.get() + shift, data, static_cast<size_t>(bytes));
  }
  const void* data() const { return memory_.get() + shift_; }

 private:
  struct Free {
    void operator()(char* memory) const { ::operator delete (memory, std::align_val_t{64}); }
  };
  std::unique_ptr<char, Free> memory_;
  int64_t shift_;
};

// A header as long as it pleases lies before the weights of a file.
TEST_P(LinearTest, BitsDoNotDependOnWhereTheWeightLies) {
  // Whole steps and a rest, up to the longest row that is one stream, and beyond; pieces that end
  // with a step, within one and within its line; tiles of all sizes.
  for (const Shape& shape :
       {Shape{1, 70, 64}, Shape{1, 5, 95}, Shape{1, 3, 4096}, Shape{1, 7, 4130}, Shape{2, 9, 32},
        Shape{2, 9, 1120}, Shape{2, 5, 4096}, Shape{2, 7, 4130}, Shape{3, 9, 288},
        Shape{3, 25, 1056}, Shape{3, 4, 3001}, Shape{4, 29, 1030}, Shape{4, 7, 4100},
        Shape{5, 8, 64}, Shape{6, 25, 2048}, Shape{7, 4, 544}, Shape{8, 25, 1056}, Shape{8, 5, 31},
        Shape{40, 26, 640}}) {
    for (const int64_t gap : {0, 1, 6}) {
      Random random(11);
      Case c(shape, format(), random);
      c.w_stride = shape.depth + gap;
      const int64_t bytes = ((shape.outputs - 1) * c.w_stride + shape.depth) * SizeOf(format());
      Stored weight(shape.outputs * c.w_stride, format(), random);
      ThreadPool pool(2);
      std::vector<float> expected;
      for (const int64_t shift : {1, 0, 2, 4, 8, 20, 32, 60, 62}) {
        SCOPED_TRACE(testing::Message() << shape.outputs << " x " << shape.depth << ", gap " << gap
                                        << ", shift " << shift);
        const ShiftedCopy copy(weight.data(), bytes, shift);
        LinearParams params = c.Params();
        std::get<StoredMatrix>(params.weight).data = copy.data();
        Linear(params, {.pool = pool, .isa = isa()});
        const std::vector<float> y(c.y.data(), c.y.data() + c.y.size());
        if (expected.empty()) expected = y;
        ASSERT_EQ(y, expected);
      }
    }
  }
}

/// In one stream or several, as this processor does and as others do.
TEST_P(LinearTest, BitsDoNotDependOnHowTheWeightIsFetched) {
  const IsaKernels& kernels = KernelsFor(isa());
  const auto index = static_cast<size_t>(format());
  Random random(12);
  for (int64_t rows = 1; rows <= 9; ++rows) {
    for (const int64_t depth : {31, 96, 544, 1100, 1120, 4130}) {
      Case c({rows, 26, depth}, format(), random);
      c.w_stride = depth + depth % 4;  // none for four of them, so that rows follow one another
      Stored weight(c.shape.outputs * c.w_stride, format(), random);
      const int64_t bytes = ((c.shape.outputs - 1) * c.w_stride + depth) * SizeOf(format());
      Guarded<float> packed_x(rows * (depth + 31));
      std::vector<float> expected;
      for (const int64_t one_stream_x : {0, 1 << 20}) {
        for (const int64_t shift : {0, 2, 20, 60}) {
          SCOPED_TRACE(testing::Message() << rows << " x " << depth << ", shift " << shift
                                          << ", one stream up to " << one_stream_x << " bytes");
          const ShiftedCopy copy(weight.data(), bytes, shift);
          LinearKernelArgs args;
          args.x = c.x.data();
          args.x_stride = c.x_stride;
          args.rows = rows;
          args.depth = depth;
          args.weight = copy.data();
          args.weight_stride = c.w_stride;
          args.outputs = c.shape.outputs;
          args.y = c.y.data();
          args.y_stride = c.y_stride;
          args.packed_x = packed_x.data();
          args.one_stream_x = one_stream_x;
          kernels.linear_pack_pieces[index](args, 0, depth / kernels.row_piece(rows) + 1);
          kernels.linear_rows[index](args, 0, args.outputs);
          const std::vector<float> y(c.y.data(), c.y.data() + c.y.size());
          if (expected.empty()) expected = y;
          ASSERT_EQ(y, expected);
        }
      }
    }
  }
}

TEST_P(LinearTest, EmptySizes) {
  Random random(9);
  ThreadPool pool(2);
  for (const Shape& shape : {Shape{0, 5, 5}, Shape{5, 0, 5}, Shape{5, 5, 0}, Shape{50, 5, 0}}) {
    Case c(shape, format(), random);
    LinearParams params = c.Params();
    params.bias = c.bias.Vector();
    const std::vector<float> before(c.y.data(), c.y.data() + c.y.size());
    Linear(params, {.pool = pool, .isa = isa()});
    Expect(c, before, params);
  }
}

/// More numbers of x than are packed at a time: a prompt's rows for the last product of an MLP.
TEST(LinearTurns, EachHasRowsOfItsOwn) {
  constexpr int64_t kRows = 530, kOutputs = 3, kDepth = 16000;
  static_assert(kRows * kDepth > kPackedFloats);
  std::vector<float> x(kRows * kDepth), y(kRows * kOutputs), weight(kOutputs * kDepth);
  const auto number = [](int64_t row) { return static_cast<float>(row % 61 + 1); };
  for (int64_t row = 0; row < kRows; ++row) {
    std::fill_n(x.begin() + row * kDepth, kDepth, number(row));
  }
  for (int64_t n = 0; n < kOutputs; ++n) {
    std::fill_n(weight.begin() + n * kDepth, kDepth, static_cast<float>(n + 1));
  }
  ThreadPool pool(2);
  Linear({.x = x.data(),
          .x_stride = kDepth,
          .rows = kRows,
          .weight = StoredMatrix{.data = weight.data(),
                                 .format = Format::kFloat32,
                                 .rows = kOutputs,
                                 .columns = kDepth,
                                 .row_stride = kDepth},
          .y = y.data(),
          .y_stride = kOutputs},
         {.pool = pool});
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t n = 0; n < kOutputs; ++n) {
      // Whole numbers below 2^24 are exact in every order.
      ASSERT_EQ(y[static_cast<size_t>(row * kOutputs + n)],
                number(row) * static_cast<float>((n + 1) * kDepth))
          << "row " << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, LinearTest,
                         testing::Combine(testing::ValuesIn(RunnableIsas()),
                                          testing::Values(Format::kFloat32, Format::kBfloat16,
                                                          Format::kFloat16)),
                         [](const auto& info) {
                           return std::string(ToString(std::get<0>(info.param))) + "_" +
                                  ToString(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace xcomposer::cpu
