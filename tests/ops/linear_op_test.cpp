#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class LinearOp : public OpTest {};

/// A sum of K products and two more terms: Gamma(K + 3) of the magnitudes.
Tensor LinearBudget(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  const auto size = [](const Tensor& t) { return reference::Wide(t).abs(); };
  const Tensor magnitude = bias ? reference::Linear(size(x), size(weight), size(*bias))
                                : reference::Linear(size(x), size(weight));
  return magnitude * Gamma(weight.size(1) + 3);
}

TEST_F(LinearOp, AgreesWithReference) {
  for (const at::ScalarType type : kStoredTypes) {
    for (const int64_t rows : {0, 1, 3, 17, 99}) {
      for (const auto& [outputs, depth] :
           {std::pair<int64_t, int64_t>{1, 1}, {19, 65}, {65, 19}, {257, 99}, {3, 257}}) {
        const Tensor x = Uniform({rows, depth});
        const Tensor weight = Uniform({outputs, depth}).to(type);
        const Tensor bias = Uniform({outputs}).to(type);
        ExpectWithin(Linear(x, weight), reference::Linear(x, weight),
                     LinearBudget(x, weight, std::nullopt));
        ExpectWithin(Linear(x, weight, bias), reference::Linear(x, weight, bias),
                     LinearBudget(x, weight, bias));
      }
    }
  }
}

TEST_F(LinearOp, TakesLeadingDimensionsAndViewsOfWeights) {
  const Tensor x = Uniform({2, 3, 17});
  const Tensor weight = Uniform({50, 40}).to(at::kBFloat16).slice(1, 5, 22).slice(0, 1, 20);
  const Tensor y = Linear(x, weight);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({2, 3, 19}));
  ExpectWithin(y, reference::Linear(x, weight), LinearBudget(x, weight, std::nullopt));
}

TEST_F(LinearOp, GoesWhereTheResultLies) {
  for (const at::ScalarType type : kStoredTypes) {
    for (const int64_t rows : {0, 1, 19}) {
      const Tensor x = Uniform({rows, 40}).narrow(1, 3, 17);
      const Tensor weight = Uniform({21, 40}).to(type).narrow(1, 5, 17);
      ExpectWithin(Linear(x, weight), reference::Linear(x, weight),
                   LinearBudget(x, weight, std::nullopt));
      const Tensor all = Uniform({rows, 50});
      const Tensor before = all.clone();
      Tensor y = all.narrow(1, 2, 21);
      LinearInto_(y, x, weight, 2.0);
      ExpectWithin(y, 2.0 * reference::Linear(x, weight),
                   2.0 * LinearBudget(x, weight, std::nullopt));
      EXPECT_TRUE(all.narrow(1, 0, 2).equal(before.narrow(1, 0, 2)));
      EXPECT_TRUE(all.narrow(1, 23, 27).equal(before.narrow(1, 23, 27)));
    }
  }
}

// x of the second overlaps that of the first.
/// What a decoding step calls is the ops that it is made of, bit for bit.
TEST_F(LinearOp, FusedOpsAreTheirParts) {
  for (const at::ScalarType type : kStoredTypes) {
    const Tensor w1 = Uniform({70, 65}).to(type);
    const Tensor w3 = Uniform({70, 65}).to(type);
    const Tensor norm = Uniform({65}).to(type);
    for (const int64_t rows : {0, 1, 3, 40}) {
      const Tensor hidden = Uniform({rows, 65});
      const Tensor x = RmsNorm(hidden, norm, 1e-5);
      Tensor gate = Linear(x, w1);
      SiluMul_(gate, Linear(x, w3));
      EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, LinearWeight::Dense(w1), LinearWeight::Dense(w3))
                      .equal(gate));
      Tensor y = Uniform({rows, 70});
      const Tensor sum = y + Linear(x, w1);
      LinearAdd_(y, x, LinearWeight::Dense(w1));
      EXPECT_TRUE(y.equal(sum));
      Tensor scores = at::full({rows, 70}, NAN);
      NormScores_(scores, hidden, norm, 1e-5, LinearWeight::Dense(w1));
      EXPECT_TRUE(scores.equal(Linear(x, w1)));
    }
  }
  const Tensor hidden = Uniform({2, 65});
  const Tensor norm = Uniform({65});
  const auto weight = [&](int64_t outputs) {
    return LinearWeight::Dense(Uniform({outputs, 65}).to(at::kBFloat16));
  };
  ExpectInternalError([&] { NormGateUp(hidden, norm, 1e-5, weight(70), weight(71)); }, "differ");
  Tensor y = at::zeros({2, 71});
  ExpectInternalError([&] { LinearAdd_(y, hidden, weight(70)); }, "y must be [2, 70]");
}

TEST_F(LinearOp, TakesSeveralProductsInOneCall) {
  const Tensor all = Uniform({9, 30});
  const Tensor x = all.as_strided({9, 3, 17}, {30, 5, 1});
  const Tensor weight = Uniform({3, 8, 17}).to(at::kBFloat16);
  Tensor y = Uniform({9, 40}).as_strided({9, 3, 8}, {40, 11, 1});
  LinearInto_(y, x, weight);
  for (int64_t p = 0; p < 3; ++p) {
    const Tensor part = all.narrow(1, 5 * p, 17);
    ExpectWithin(y.select(1, p), reference::Linear(part, weight.select(0, p)),
                 LinearBudget(part, weight.select(0, p), std::nullopt));
  }
}

struct LowRank {
  explicit LowRank(at::ScalarType type)
      : y(Uniform({65, 33})),
        x(Uniform({65, 99})),
        a(Uniform({17, 99}).to(type)),
        b(Uniform({33, 17}).to(type)) {}

  Tensor y, x, a, b;

  Tensor Budget(double scale) const {
    const Tensor low = reference::Linear(x.abs(), reference::Wide(a).abs());
    return (reference::Wide(y).abs() +
            std::abs(scale) * reference::Linear(low, reference::Wide(b).abs())) *
           Gamma(99 + 17 + 4);
  }
};

TEST_F(LinearOp, AddRowsAgreesWithReference) {
  const std::vector<std::vector<int64_t>> span_lists = {
      {}, {0, 65}, {3, 4}, {0, 0, 5, 22, 22, 22, 30, 65}, {64, 65}};
  for (const at::ScalarType type : kStoredTypes) {
    for (const auto& spans : span_lists) {
      for (const double scale : {1.0, 2.0}) {
        const LowRank c(type);
        Tensor y = c.y.clone();
        LinearAddRows_(y, c.x, c.a, c.b, spans, scale);
        ExpectWithin(y, reference::LinearAddRows(c.y, c.x, c.a, c.b, spans, scale),
                     c.Budget(scale));
      }
    }
  }
}

TEST_F(LinearOp, RowsOutsideOfSpansStayBitForBit) {
  const LowRank c(at::kBFloat16);
  Tensor y = c.y.clone();
  LinearAddRows_(y, c.x, c.a, c.b, {20, 20}, 1.0);
  EXPECT_TRUE(y.equal(c.y));
  LinearAddRows_(y, c.x, c.a, c.b, {10, 40}, 1.0);
  EXPECT_TRUE(y.slice(0, 0, 10).equal(c.y.slice(0, 0, 10)));
  EXPECT_TRUE(y.slice(0, 40).equal(c.y.slice(0, 40)));
  EXPECT_FALSE(y.slice(0, 10, 11).equal(c.y.slice(0, 10, 11)));
}

TEST_F(LinearOp, NoThreadsInstalledGivesTheSame) {
  const Tensor x = Uniform({40, 130});
  const Tensor weight = Uniform({300, 130}).to(at::kHalf);
  const Tensor with = Linear(x, weight);
  cpu::ThreadPool alone(1);
  const cpu::ThreadPoolScope scope(alone);
  EXPECT_TRUE(Linear(x, weight).equal(with));
}

}  // namespace
}  // namespace xcomposer::ops
