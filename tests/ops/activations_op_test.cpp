#include "kernels/cpu/cpu_info.h"
#include "ops/activations.h"
#include "ops/cpu_context.h"
#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

/// Ops with activations in bfloat16. Rows of x are as many as kernels round, unless said otherwise.
class ActivationsOp : public OpTest {
 protected:
  static constexpr int64_t kRows = 40;

  /// What x counts as.
  static Tensor Counted(const Tensor& x) {
    return cpu::HasBfloatProducts(cpu::BestIsa()) ? x.to(at::kBFloat16).to(at::kFloat) : x;
  }

 private:
  ActivationsScope scope_{cpu::Activations::kBfloat16};
};

Tensor Magnitude(const Tensor& x, const Tensor& weight) {
  return reference::Linear(x.abs(), reference::Wide(weight).abs());
}

TEST_F(ActivationsOp, ManyRowsAreRounded) {
  const Tensor x = Uniform({kRows, 96});
  const Tensor weight = Uniform({50, 96}).to(at::kBFloat16);
  const Tensor budget = Magnitude(x, weight) * Gamma(96 + 4);
  ExpectWithin(Linear(x, weight), reference::Linear(Counted(x), weight), budget);
  // Of a few rows nothing is lost, nor beside other weights.
  const Tensor few = x.narrow(0, 0, 2);
  ExpectWithin(Linear(few, weight), reference::Linear(few, weight), budget.narrow(0, 0, 2));
  const Tensor half = weight.to(at::kHalf);
  ExpectWithin(Linear(x, half), reference::Linear(x, half), budget);
}

TEST_F(ActivationsOp, ResidualSumsStayFloat) {
  const Tensor x = Uniform({kRows, 96});
  const Tensor weight = Uniform({50, 96}).to(at::kBFloat16);
  Tensor y = Uniform({kRows, 50}, 100.0);
  const Tensor before = y.clone();
  LinearAdd_(y, x, LinearWeight::Dense(weight));
  ExpectWithin(y, reference::Wide(before) + reference::Linear(Counted(x), weight),
               (Magnitude(x, weight) + reference::Wide(before).abs()) * Gamma(96 + 4));
}

TEST_F(ActivationsOp, FusedOpsAreTheirParts) {
  const Tensor w1 = Uniform({70, 64}).to(at::kBFloat16);
  const Tensor w3 = Uniform({70, 64}).to(at::kBFloat16);
  const Tensor norm = Uniform({64}).to(at::kBFloat16);
  const Tensor hidden = Uniform({kRows, 64});
  const Tensor x = RmsNorm(hidden, norm, 1e-5);
  Tensor gate = Linear(x, w1);
  SiluMul_(gate, Linear(x, w3));
  EXPECT_TRUE(
      NormGateUp(hidden, norm, 1e-5, LinearWeight::Dense(w1), LinearWeight::Dense(w3)).equal(gate));
}

// The rows between two factors are rounded too.
TEST_F(ActivationsOp, AdaptersOfRows) {
  const Tensor x = Uniform({kRows + 10, 96});
  const Tensor a = Uniform({32, 96}).to(at::kBFloat16);
  const Tensor b = Uniform({50, 32}).to(at::kBFloat16);
  Tensor y = at::zeros({kRows + 10, 50});
  const std::vector<int64_t> spans = {5, 5 + kRows};
  LinearAddRows_(y, x, a, b, spans, 2.0);
  Tensor expected = at::zeros({kRows + 10, 50}, at::kDouble);
  const Tensor some = x.narrow(0, 5, kRows);
  const Tensor low = reference::Linear(Counted(some), a);
  expected.narrow(0, 5, kRows) = 2.0 * reference::Linear(low, b);
  // Half a unit of bfloat16 of each number between them.
  const Tensor magnitude = at::zeros({kRows + 10, 50}, at::kDouble);
  magnitude.narrow(0, 5, kRows) = 2.0 * Magnitude(Magnitude(some, a), b);
  Tensor rounded = at::zeros({kRows + 10, 50}, at::kDouble);
  rounded.narrow(0, 5, kRows) = 2.0 * reference::Linear(low.abs(), reference::Wide(b).abs());
  ExpectWithin(y, expected, magnitude * Gamma(96 + 32 + 4) + rounded / 256);
}

TEST(ActivationsScope, TheInnermostOneHolds) {
  EXPECT_EQ(CurrentActivations(), cpu::Activations::kFloat32);
  {
    const ActivationsScope outer(cpu::Activations::kBfloat16);
    {
      const ActivationsScope inner(cpu::Activations::kFloat32);
      EXPECT_EQ(CurrentActivations(), cpu::Activations::kFloat32);
    }
    EXPECT_EQ(CurrentActivations(), cpu::Activations::kBfloat16);
  }
  EXPECT_EQ(CurrentActivations(), cpu::Activations::kFloat32);
}

TEST(ActivationsScope, KernelsAreToldOfIt) {
  EXPECT_EQ(CurrentContext().activations, cpu::Activations::kFloat32);
  {
    const ActivationsScope scope(cpu::Activations::kBfloat16);
    EXPECT_EQ(CurrentContext().activations, cpu::Activations::kBfloat16);
  }
  EXPECT_EQ(CurrentContext().activations, cpu::Activations::kFloat32);
}

}  // namespace
}  // namespace xcomposer::ops
