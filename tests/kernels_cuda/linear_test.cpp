#include "kernels/cuda/linear.h"

#include <gmock/gmock.h>

#include "kernels_cuda/weights.h"

// On a GPU this is cuBLASLt; under the emulator its stand-in, which other tests rely on.
namespace xcomposer::cuda {
namespace {

template <typename T>
class LinearOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(LinearOf, StoredTypes);

constexpr size_t kWorkspace = size_t{32} << 20;

struct Case {
  int64_t rows, outputs, columns;
};
constexpr Case kCases[] = {{1, 8, 8}, {19, 104, 96}, {67, 72, 1032}};

template <typename T, typename Out>
void CheckProduct(LinearResult result, bool with_bias) {
  const bool add = result == LinearResult::kAddFloat || result == LinearResult::kAddStored;
  for (const Case& size : kCases) {
    Random random(21);
    const Weights<T> w(size.outputs, size.columns, random);
    const auto x = random.Normal<T>(static_cast<size_t>(size.rows * size.columns), 1);
    const auto bias = random.Normal<T>(static_cast<size_t>(size.outputs), 1);
    const auto before = random.Normal<Out>(static_cast<size_t>(size.rows * size.outputs), 1);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<char> workspace(kWorkspace);
      LinearPlans plans(workspace.data(), kWorkspace);
      EXPECT_EQ(plans.status(), cudaSuccess);
      const Array<T> in(x);
      const auto matrix = Constant(w.values);
      const auto b = Constant(bias);
      const Array<Out> y(before);
      EXPECT_EQ(Finish(Linear({.x = in.data(),
                               .x_stride = size.columns,
                               .weight = Matrix(matrix, size.outputs, size.columns, w.stride),
                               .bias = with_bias ? b.data() : nullptr,
                               .y = y.data(),
                               .y_stride = size.outputs,
                               .rows = size.rows,
                               .scale = 0.5f,
                               .result = result,
                               .format = FormatOf<T>()},
                              plans, context)),
                "");
      return y.Read();
    });
    Doubles exact;
    Doubles naive;
    for (int64_t row = 0; row < size.rows; ++row) {
      const auto* r = x.data() + row * size.columns;
      const Doubles wide = ToDoubles(std::vector<T>(r, r + size.columns));
      const std::vector<float> narrow(wide.begin(), wide.end());
      for (int64_t n = 0; n < size.outputs; ++n) {
        float y = add ? Widen(before[exact.size()]) : 0.0f;
        if (with_bias) y = Widen(bias[static_cast<size_t>(n)]);
        exact.push_back(double{y} + 0.5 * w.Dot(n, wide));
        naive.push_back(Round<Out>(y + 0.5f * w.Dot(n, narrow)));
      }
    }
    ExpectWithinBudget(actual, exact, naive, std::to_string(size.columns));
  }
}

TYPED_TEST(LinearOf, AllResultsAgreeWithDouble) {
  using T = TypeParam;
  CheckProduct<T, T>(LinearResult::kStored, false);
  CheckProduct<T, T>(LinearResult::kStored, true);
  CheckProduct<T, float>(LinearResult::kFloat, false);
  CheckProduct<T, float>(LinearResult::kAddFloat, false);
  CheckProduct<T, T>(LinearResult::kAddStored, false);
}

TYPED_TEST(LinearOf, LowRankTouchesItsSpansOnly) {
  using T = TypeParam;
  constexpr int64_t kRows = 23, kColumns = 64, kRank = 8, kOutputs = 40;
  Random random(22);
  const Weights<T> a(kRank, kColumns, random);
  const Weights<T> b(kOutputs, kRank, random);
  const auto x = random.Normal<T>(kRows * kColumns, 1);
  const auto before = random.Normal<float>(kRows * kOutputs, 1);
  const std::vector<RowSpan> spans = {{1, 4}, {4, 4}, {4, 9}, {20, 23}};
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<char> workspace(kWorkspace);
    LinearPlans plans(workspace.data(), kWorkspace);
    const Array<T> in(x);
    const auto wa = Constant(a.values);
    const auto wb = Constant(b.values);
    const Array<T> inner(kRows * kRank);
    const Array<float> y(before);
    EXPECT_EQ(Finish(AddLowRank({.x = in.data(),
                                 .x_stride = kColumns,
                                 .a = Matrix(wa, kRank, kColumns, a.stride),
                                 .b = Matrix(wb, kOutputs, kRank, b.stride),
                                 .inner = inner.data(),
                                 .y = y.data(),
                                 .y_stride = kOutputs,
                                 .scale = 2.0f,
                                 .result = LinearResult::kAddFloat,
                                 .format = FormatOf<T>()},
                                spans, plans, context)),
              "");
    return y.Read();
  });
  Doubles exact = ToDoubles(before);
  Doubles naive = exact;
  for (int64_t row = 0; row < kRows; ++row) {
    if (!((row >= 1 && row < 9) || row >= 20)) {
      for (int64_t n = 0; n < kOutputs; ++n) {
        ASSERT_EQ(actual[static_cast<size_t>(row * kOutputs + n)],
                  before[static_cast<size_t>(row * kOutputs + n)]);
      }
      continue;
    }
    const auto* r = x.data() + row * kColumns;
    const Doubles wide = ToDoubles(std::vector<T>(r, r + kColumns));
    Doubles inner;
    Doubles rounded;
    for (int64_t i = 0; i < kRank; ++i) {
      inner.push_back(a.Dot(i, wide));
      rounded.push_back(Round<T>(inner.back()));
    }
    for (int64_t n = 0; n < kOutputs; ++n) {
      const auto at = static_cast<size_t>(row * kOutputs + n);
      exact[at] += 2 * b.Dot(n, inner);
      naive[at] = Round<float>(naive[at] + 2 * b.Dot(n, rounded));
    }
  }
  ExpectWithinBudget(actual, exact, naive, "low rank");
}

// w1 and w3: x overlaps, as where each has something of its own beside a common part, and results
// lie beside each other in the same rows, NaN between them.
TYPED_TEST(LinearOf, ProductsOfABatchAreEachTheirOwn) {
  using T = TypeParam;
  constexpr int64_t kRows = 19, kColumns = 104, kOutputs = 40, kCount = 3, kOverlap = 24;
  constexpr int64_t kXStride = kColumns + (kCount - 1) * kOverlap + 16;
  constexpr int64_t kYDistance = kOutputs + 8;
  Random random(23);
  const Weights<T> w(kCount * kOutputs, kColumns, random);
  const auto x = random.Normal<T>(kRows * kXStride, 1);
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<char> workspace(kWorkspace);
    LinearPlans plans(workspace.data(), kWorkspace);
    const Array<T> in(x);
    const auto matrix = Constant(w.values);
    const Array<T> y(kRows * kCount * kYDistance);
    EXPECT_EQ(Finish(Linear({.x = in.data(),
                             .x_stride = kXStride,
                             .weight = Matrix(matrix, kOutputs, kColumns, w.stride),
                             .y = y.data(),
                             .y_stride = kCount * kYDistance,
                             .rows = kRows,
                             .scale = 2.0f,
                             .batch = {.count = kCount,
                                       .weight_distance = kOutputs * w.stride,
                                       .x_distance = kOverlap,
                                       .y_distance = kYDistance},
                             .format = FormatOf<T>()},
                            plans, context)),
              "");
    return y.Read();
  });
  std::vector<T> results;
  Doubles exact;
  Doubles naive;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < kCount; ++i) {
      const auto* r = x.data() + row * kXStride + i * kOverlap;
      const Doubles wide = ToDoubles(std::vector<T>(r, r + kColumns));
      const std::vector<float> narrow(wide.begin(), wide.end());
      const auto* y = actual.data() + (row * kCount + i) * kYDistance;
      for (int64_t n = 0; n < kOutputs; ++n) {
        results.push_back(y[n]);
        exact.push_back(2 * w.Dot(i * kOutputs + n, wide));
        naive.push_back(Round<T>(2 * w.Dot(i * kOutputs + n, narrow)));
      }
      for (int64_t n = kOutputs; n < kYDistance; ++n) ASSERT_TRUE(std::isnan(Widen(y[n])));
    }
  }
  ExpectWithinBudget(results, exact, naive, "batch");
}

// Rows of x with room behind them, zeros where no span is: the first product fills it, the second
// has b behind the weight.
TYPED_TEST(LinearOf, TheSecondFactorBesideTheWeightNeedsNoProductOfItsOwn) {
  using T = TypeParam;
  constexpr int64_t kRows = 23, kColumns = 64, kRank = 8, kOutputs = 40;
  constexpr int64_t kStride = kColumns + kRank;
  Random random(24);
  const Weights<T> a(kRank, kColumns, random);
  const Weights<T> joined(kOutputs, kColumns + kRank, random);
  auto x = random.Normal<T>(kRows * kStride, 1);
  for (int64_t row = 0; row < kRows; ++row) {
    std::fill_n(x.begin() + row * kStride + kColumns, kRank, Narrow<T>(0.0f));
  }
  const std::vector<RowSpan> spans = {{1, 4}, {4, 4}, {4, 9}, {20, 23}};
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<char> workspace(kWorkspace);
    LinearPlans plans(workspace.data(), kWorkspace);
    const Array<T> in(x);
    const auto wa = Constant(a.values);
    const auto wb = Constant(joined.values);
    EXPECT_EQ(Finish(LinearOfSpans({.x = in.data(),
                                    .x_stride = kStride,
                                    .weight = Matrix(wa, kRank, kColumns, a.stride),
                                    .y = in.data() + kColumns,
                                    .y_stride = kStride,
                                    .rows = kRows,
                                    .scale = 2.0f,
                                    .format = FormatOf<T>()},
                                   spans, plans, context)),
              "");
    const Array<T> y(kRows * kOutputs);
    EXPECT_EQ(Finish(Linear({.x = in.data(),
                             .x_stride = kStride,
                             .weight = Matrix(wb, kOutputs, kColumns + kRank, joined.stride),
                             .y = y.data(),
                             .y_stride = kOutputs,
                             .rows = kRows,
                             .format = FormatOf<T>()},
                            plans, context)),
              "");
    return y.Read();
  });
  Doubles exact;
  Doubles naive;
  for (int64_t row = 0; row < kRows; ++row) {
    const bool adapted = (row >= 1 && row < 9) || row >= 20;
    const auto* r = x.data() + row * kStride;
    Doubles wide = ToDoubles(std::vector<T>(r, r + kColumns));
    Doubles rounded = wide;
    for (int64_t i = 0; i < kRank; ++i) {
      const double inner = 2 * a.Dot(i, Doubles(wide.begin(), wide.begin() + kColumns));
      wide.push_back(adapted ? inner : 0.0);
      rounded.push_back(adapted ? Round<T>(inner) : 0.0);
    }
    for (int64_t n = 0; n < kOutputs; ++n) {
      exact.push_back(joined.Dot(n, wide));
      naive.push_back(Round<T>(joined.Dot(n, rounded)));
    }
  }
  ExpectWithinBudget(actual, exact, naive, "b beside the weight");
}

TYPED_TEST(LinearOf, RefusesBatchesAndSpansThatDoNotFit) {
  using T = TypeParam;
  const Array<char> workspace(kWorkspace);
  LinearPlans plans(workspace.data(), kWorkspace);
  const Context context = Ways()[0];
  const Array<T> x(256);
  const auto w = Constant(std::vector<T>(256));
  const LinearParams whole{.x = x.data(),
                           .x_stride = 16,
                           .weight = Matrix(w, 8, 16, 16),
                           .y = x.data(),
                           .y_stride = 16,
                           .rows = 0,
                           .batch = {.count = 2, .weight_distance = 128, .y_distance = 8},
                           .format = FormatOf<T>()};
  EXPECT_EQ(Linear(whole, plans, context), cudaSuccess);
  const auto with = [&whole](const LinearBatch& batch) {
    LinearParams changed = whole;
    changed.batch = batch;
    return changed;
  };
  const LinearBatch wrong[] = {
      {0, 128, 0, 8}, {2, 12, 0, 8}, {2, 128, 4, 8}, {2, 128, 0, 0}, {2, 128, 0, 12}};
  for (const LinearBatch& batch : wrong) {
    EXPECT_EQ(Linear(with(batch), plans, context), cudaErrorInvalidValue);
  }
  LinearParams biased = whole;
  biased.bias = x.data();
  EXPECT_EQ(Linear(biased, plans, context), cudaErrorInvalidValue);
  EXPECT_EQ(LinearOfSpans(whole, {{0, 1}}, plans, context), cudaErrorInvalidValue);
  EXPECT_EQ(LinearOfSpans(whole, {{0, 0}, {1, 0}}, plans, context), cudaErrorInvalidValue);
  EXPECT_EQ(LinearOfSpans(whole, {}, plans, context), cudaSuccess);
}

TEST(RowSpans, TouchingOnesAreJoined) {
  bool ascending = false;
  const auto joined = JoinSpans({{0, 0}, {2, 5}, {5, 5}, {5, 7}, {9, 10}, {12, 12}}, ascending);
  EXPECT_TRUE(ascending);
  ASSERT_EQ(joined.size(), 2u);
  EXPECT_EQ(joined[0].begin, 2);
  EXPECT_EQ(joined[0].end, 7);
  EXPECT_EQ(joined[1].begin, 9);
  EXPECT_EQ(joined[1].end, 10);
  JoinSpans({{3, 5}, {4, 6}}, ascending);
  EXPECT_FALSE(ascending);
  JoinSpans({{3, 2}}, ascending);
  EXPECT_FALSE(ascending);
}

}  // namespace
}  // namespace xcomposer::cuda
