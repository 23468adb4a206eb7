// bfloat16 weights in 12 bits: every op gives what it gives with the matrix that was packed.
#include "ops/bf12.h"
#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class Bf12Op : public OpTest {};

/// As trained weights are: many sizes, a few zeros, a few numbers far off.
Tensor Numbers(int64_t outputs, int64_t inputs) {
  Tensor numbers = at::randn({outputs, inputs}) * 0.02;
  numbers.view(-1).slice(0, 5, c10::nullopt, 2003).zero_();
  numbers.view(-1).slice(0, 777, c10::nullopt, 2011).mul_(1e4);
  numbers.view(-1).slice(0, 1490, c10::nullopt, 2017).mul_(1e-12);
  return numbers.to(at::kBFloat16);
}

LinearWeight Packed(const Tensor& numbers) {
  std::optional<LinearWeight> packed = PackBf12(numbers);
  EXPECT_TRUE(packed.has_value());
  return packed.value_or(LinearWeight{});
}

/// The bits of bfloat16 numbers: -0 is another number than 0.
Tensor Bits(const Tensor& numbers) { return numbers.to(at::kBFloat16).view(at::kShort); }

struct Sizes {
  int64_t outputs, inputs;
};
const Sizes kSizes[] = {{4, 128}, {44, 256}, {272, 640}};

TEST_F(Bf12Op, HoldsTheNumbersBitForBit) {
  for (const Sizes& sizes : kSizes) {
    const Tensor numbers = Numbers(sizes.outputs, sizes.inputs);
    const LinearWeight weight = Packed(numbers);
    EXPECT_EQ(weight.packing, WeightPacking::kBf12);
    EXPECT_STREQ(ToString(weight.packing), "bf12");
    EXPECT_EQ(weight.outputs(), sizes.outputs);
    EXPECT_EQ(weight.inputs(), sizes.inputs);
    EXPECT_TRUE(Bits(Dequantised(weight)).equal(Bits(numbers)));
    const int64_t places = sizes.outputs / 4 + 1;
    EXPECT_GT(weight.zeros.numel(), places);
    EXPECT_EQ(weight.nbytes(), numbers.numel() * 12 / 8 + 4 * sizes.outputs + 4 * places +
                                   4 * (weight.zeros.numel() - places));
  }
}

TEST_F(Bf12Op, ProductsAreThoseOfTheDenseMatrix) {
  for (const Sizes& sizes : kSizes) {
    const Tensor numbers = Numbers(sizes.outputs, sizes.inputs);
    LinearWeight dense = LinearWeight::Dense(numbers);
    LinearWeight packed = Packed(numbers);
    for (const int64_t rows : {0, 1, 3, 8, 40}) {
      const Tensor x = Uniform({rows, sizes.inputs});
      EXPECT_TRUE(Linear(x, packed).equal(Linear(x, dense))) << rows;
      Tensor sum = Uniform({rows, sizes.outputs});
      Tensor expected = sum.clone();
      LinearAdd_(sum, x, packed);
      LinearAdd_(expected, x, dense);
      EXPECT_TRUE(sum.equal(expected)) << rows;
      Tensor scores = at::full({rows, sizes.outputs}, NAN);
      Tensor of_dense = scores.clone();
      const Tensor norm = Uniform({sizes.inputs}).to(at::kBFloat16);
      NormScores_(scores, x, norm, 1e-5, packed);
      NormScores_(of_dense, x, norm, 1e-5, dense);
      EXPECT_TRUE(scores.equal(of_dense)) << rows;
    }
    packed.bias = dense.bias = Uniform({sizes.outputs}).to(at::kBFloat16);
    const Tensor x = Uniform({2, 3, sizes.inputs});
    EXPECT_TRUE(Linear(x, packed).equal(Linear(x, dense)));
  }
}

// Both packed, and one that stayed dense beside one that did not.
TEST_F(Bf12Op, GateAndUpAreThoseOfDenseMatrices) {
  const Tensor first = Numbers(92, 256);
  const Tensor second = Numbers(92, 256);
  const LinearWeight dense[] = {LinearWeight::Dense(first), LinearWeight::Dense(second)};
  const LinearWeight packed[] = {Packed(first), Packed(second)};
  for (const int64_t rows : {0, 1, 3, 8, 40}) {
    const Tensor hidden = Uniform({rows, 256});
    const Tensor norm = Uniform({256}).to(at::kBFloat16);
    const Tensor expected = NormGateUp(hidden, norm, 1e-5, dense[0], dense[1]);
    EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, packed[0], packed[1]).equal(expected)) << rows;
    EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, packed[0], dense[1]).equal(expected)) << rows;
    EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, dense[0], packed[1]).equal(expected)) << rows;
  }
}

TEST_F(Bf12Op, WhatDoesNotFitIsNotPacked) {
  EXPECT_FALSE(PackBf12(Numbers(6, 128)));
  EXPECT_FALSE(PackBf12(Numbers(8, 120)));
  EXPECT_FALSE(PackBf12(at::empty({0, 128}, at::kBFloat16)));
  const Tensor wild = at::pow(2.0, Uniform({8, 128}, 60.0)).to(at::kBFloat16);
  EXPECT_FALSE(PackBf12(wild));
}

TEST_F(Bf12Op, OnlyDenseBfloat16IsPacked) {
  const Tensor numbers = Numbers(8, 256);
  ExpectInternalError([&] { PackBf12(numbers.to(at::kHalf)); }, "found Half [8, 256]");
  ExpectInternalError([&] { PackBf12(numbers.slice(1, 0, 128)); }, "dense bfloat16");
  ExpectInternalError([&] { PackBf12(numbers.flatten()); }, "dense bfloat16");
  ExpectInternalError([&] { PackBf12(numbers.to(at::kMeta)); }, "on the CPU");
}

TEST_F(Bf12Op, MetaGivesTheShape) {
  LinearWeight weight = Packed(Numbers(44, 256));
  for (Tensor* part : {&weight.data, &weight.scales, &weight.zeros}) *part = part->to(at::kMeta);
  const Tensor y = Linear(at::empty({2, 7, 256}, at::TensorOptions(at::kMeta)), weight);
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), at::IntArrayRef({2, 7, 44}));
}

TEST_F(Bf12Op, RefusesPartsThatDoNotFit) {
  const Tensor x = Uniform({2, 256});
  const LinearWeight good = Packed(Numbers(12, 256));
  Linear(x, good);
  const auto expect = [&](const std::string& part, const auto& change) {
    LinearWeight weight = good;
    change(weight);
    ExpectInternalError([&] { Linear(x, weight); }, part);
    ExpectInternalError([&] { Dequantised(weight); }, part);
  };
  expect("blocks of 192", [](LinearWeight& w) { w.data = w.data.to(at::kLong); });
  expect("blocks of 192", [](LinearWeight& w) { w.data = w.data.flatten(1); });
  expect("blocks of 192", [](LinearWeight& w) { w.data = w.data.slice(2, 0, 96).contiguous(); });
  expect("blocks of 192", [](LinearWeight& w) { w.data = w.data.transpose(0, 1); });
  expect("0 outputs", [](LinearWeight& w) { w.data = w.data.slice(0, 0, 0); });
  expect("groups of 128", [](LinearWeight& w) { w.group = 128; });
  expect("scales", [](LinearWeight& w) { w.scales = at::Tensor(); });
  expect("scales", [](LinearWeight& w) { w.scales = w.scales.to(at::kHalf); });
  expect("scales", [](LinearWeight& w) { w.scales = w.scales.slice(0, 0, 8); });
  expect("scales", [](LinearWeight& w) { w.scales = w.scales.unsqueeze(0); });
  expect("outliers", [](LinearWeight& w) { w.zeros = at::Tensor(); });
  expect("outliers", [](LinearWeight& w) { w.zeros = w.zeros.to(at::kLong); });
  expect("outliers", [](LinearWeight& w) { w.zeros = w.zeros.slice(0, 0, 3); });
  expect("outliers", [](LinearWeight& w) { w.zeros = w.zeros.slice(0, 0, -1); });
  expect("4 and ", [](LinearWeight& w) { w.zeros = w.zeros.slice(0, 0, -2); });
  expect("begin at 5", [](LinearWeight& w) {
    w.zeros = w.zeros.clone();
    w.zeros[0] = 5;
  });
  expect("bias", [](LinearWeight& w) { w.bias = Uniform({11}); });
  ExpectInternalError([&] { Linear(Uniform({2, 128}), good); }, "256 inputs");
  const LinearWeight wider = Packed(Numbers(16, 256));
  ExpectInternalError([&] { NormGateUp(x, Uniform({256}), 1e-5, good, wider); },
                      "w1 has 12 outputs and w3 16");
}

}  // namespace
}  // namespace xcomposer::ops
