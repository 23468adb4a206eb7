#include <filesystem>
#include <tuple>
#include <utility>

#include "kernels/cpu/cpu_info.h"
#include "ops/op_testing.h"
#include "ops/ops.h"
#include "ops/quantise.h"
#include "support/activation_bits.h"
#include "support/memory_flags.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class LinearPackedOp : public OpTest {};

struct Sizes {
  int64_t outputs, inputs, group;
};

/// Quantised by this program: in panels of 16 outputs, with products of integers.
bool IsOwn(WeightPacking packing) {
  return packing == WeightPacking::kInt4 || packing == WeightPacking::kInt8;
}

LinearWeight RandomWeight(WeightPacking packing, const Sizes& sizes) {
  LinearWeight weight;
  weight.packing = packing;
  weight.group = sizes.group;
  const int64_t per_word = 32 / weight.bits();
  const int64_t groups = (sizes.inputs + sizes.group - 1) / sizes.group;
  const auto words = [](at::IntArrayRef shape) {
    return at::randint(INT32_MIN, int64_t{INT32_MAX} + 1, shape, at::kLong).to(at::kInt);
  };
  if (IsOwn(packing)) {
    const int64_t panels = sizes.outputs / 16;
    weight.data = words({panels, sizes.inputs / per_word, 16});
    weight.zeros = words({panels, groups, 16 / per_word});
    weight.scales = Uniform({panels, groups, 16}).to(at::kHalf);
    return weight;
  }
  weight.data = packing == WeightPacking::kAwq4 ? words({sizes.inputs, sizes.outputs / 8})
                                                : words({sizes.inputs / per_word, sizes.outputs});
  weight.zeros = words({groups, sizes.outputs / per_word});
  weight.scales = Uniform({groups, sizes.outputs}).to(at::kHalf);
  return weight;
}

const Sizes kSizes[] = {{8, 8, 8}, {24, 136, 64}, {136, 24, 32}, {264, 256, 128}};
const Sizes kOwnSizes[] = {{16, 8, 8}, {32, 136, 128}, {144, 24, 32}, {272, 256, 128}};
const WeightPacking kOfficial[] = {WeightPacking::kGptq4, WeightPacking::kGptq8,
                                   WeightPacking::kAwq4};
const WeightPacking kOwn[] = {WeightPacking::kInt4, WeightPacking::kInt8};
const WeightPacking kPackings[] = {WeightPacking::kGptq4, WeightPacking::kGptq8,
                                   WeightPacking::kAwq4, WeightPacking::kInt4,
                                   WeightPacking::kInt8};

TEST_F(LinearPackedOp, DequantisesAsTheReference) {
  for (const WeightPacking packing : kPackings) {
    for (const Sizes& sizes : IsOwn(packing) ? kOwnSizes : kSizes) {
      const LinearWeight weight = RandomWeight(packing, sizes);
      EXPECT_EQ(weight.outputs(), sizes.outputs);
      EXPECT_EQ(weight.inputs(), sizes.inputs);
      EXPECT_TRUE(Dequantised(weight).to(at::kDouble).equal(reference::Dequantised(weight)));
    }
  }
}

/// The dequantised matrix is exact, so the budget is that of a dense one, with a rounding for each
/// group's scale.
TEST_F(LinearPackedOp, AgreesWithReference) {
  for (const WeightPacking packing : kOfficial) {
    for (const Sizes& sizes : kSizes) {
      for (const int64_t rows : {0, 1, 3, 40}) {
        LinearWeight weight = RandomWeight(packing, sizes);
        if (rows == 3) weight.bias = Uniform({sizes.outputs}).to(at::kHalf);
        const Tensor x = Uniform({rows, sizes.inputs});
        const Tensor dense = reference::Dequantised(weight);
        Tensor magnitude = reference::Linear(x.abs(), dense.abs());
        if (weight.bias) magnitude = magnitude + reference::Wide(*weight.bias).abs();
        ExpectWithin(Linear(x, weight), reference::Linear(x, dense, weight.bias),
                     magnitude * Gamma(sizes.inputs + weight.scales.size(0) + 4));
      }
    }
  }
}

/// Rounded x is off by half a step of its block at most, a step being the block's largest magnitude
/// over the largest code.
TEST_F(LinearPackedOp, RoundsActivationsForOwnWeights) {
  const Sizes sizes{144, 384, 128};
  const bool bytes = cpu::RoundsToBytes(cpu::BestIsa());
  for (const auto& [packing, block, most] :
       {std::tuple{WeightPacking::kInt8, bytes ? 64 : 128, bytes ? 127.0 : 32767.0},
        std::tuple{WeightPacking::kInt4, 32, 127.0}}) {
    const LinearWeight weight = RandomWeight(packing, sizes);
    for (const int64_t rows : {1, 40}) {
      const Tensor x = Uniform({rows, sizes.inputs});
      const Tensor dense = reference::Dequantised(weight);
      const Tensor blocks = x.to(at::kDouble).abs().reshape({rows, -1, block});
      const Tensor steps = std::get<0>(blocks.max(2)) / most;  // (rows, blocks)
      const Tensor sizes_of = dense.abs().reshape({sizes.outputs, -1, block}).sum(2);
      const Tensor magnitude = reference::Linear(x.abs(), dense.abs());
      const Tensor y = Linear(x, weight);
      ExpectWithin(y, reference::Linear(x, dense),
                   steps.matmul(sizes_of.t()) * 0.5 * (1 + 1e-5) +
                       magnitude * Gamma(sizes.inputs / block + 7));
      EXPECT_FALSE(y.equal(Linear(x, Dequantised(weight))));
    }
  }
}

/// The head is a linear after a norm, into scores that are there already.
TEST_F(LinearPackedOp, ScoresAreThoseOfTheNormedRows) {
  for (const WeightPacking packing : kPackings) {
    const LinearWeight output = RandomWeight(packing, {272, 256, 128});
    for (const int64_t rows : {0, 1, 2, 33}) {
      const Tensor hidden = Uniform({rows, 256});
      const Tensor norm = Uniform({256}).to(at::kBFloat16);
      Tensor scores = at::full({rows, 272}, NAN);
      NormScores_(scores, hidden, norm, 1e-5, output);
      EXPECT_TRUE(scores.equal(Linear(RmsNorm(hidden, norm, 1e-5), output)));
      Tensor meta = scores.to(at::kMeta);
      LinearWeight shapes = output;
      for (Tensor* part : {&shapes.data, &shapes.scales, &shapes.zeros}) {
        *part = part->to(at::kMeta);
      }
      NormScores_(meta, hidden.to(at::kMeta), norm.to(at::kMeta), 1e-5, shapes);
    }
  }
  const LinearWeight output = RandomWeight(WeightPacking::kGptq8, {264, 256, 128});
  const auto refused = [&](Tensor scores, const Tensor& hidden, const std::string& part) {
    ExpectInternalError(
        [&] { NormScores_(scores, hidden, Uniform({hidden.size(1)}), 1e-5, output); }, part);
  };
  refused(at::zeros({2, 256}), Uniform({2, 256}), "dense float32 [2, 264]");
  refused(at::zeros({2, 264}, at::kDouble), Uniform({2, 256}), "dense float32 [2, 264]");
  refused(at::zeros({264, 2}).t(), Uniform({2, 256}), "dense float32 [2, 264]");
  refused(at::zeros({2, 264}), Uniform({2, 128}), "256 inputs");
}

/// What a decoding step calls is the ops that it is made of, bit for bit.
TEST_F(LinearPackedOp, FusedOpsAreTheirParts) {
  for (const WeightPacking packing : kPackings) {
    const LinearWeight w1 = RandomWeight(packing, {96, 256, 128});
    const LinearWeight w3 = RandomWeight(packing, {96, 256, 128});
    for (const int64_t rows : {0, 1, 2, 33}) {
      const Tensor hidden = Uniform({rows, 256});
      const Tensor norm = Uniform({256}).to(at::kBFloat16);
      const Tensor x = RmsNorm(hidden, norm, 1e-5);
      Tensor gate = Linear(x, w1);
      SiluMul_(gate, Linear(x, w3));
      EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, w1, w3).equal(gate));
      Tensor y = Uniform({rows, 96});
      const Tensor sum = y + Linear(x, w1);
      LinearAdd_(y, x, w1);
      EXPECT_TRUE(y.equal(sum));
    }
  }
  // Weights that are not alike are worked on one after the other.
  for (const auto& [one, other] : {std::pair{WeightPacking::kGptq8, WeightPacking::kGptq4},
                                   {WeightPacking::kInt8, WeightPacking::kInt4},
                                   {WeightPacking::kInt4, WeightPacking::kGptq4}}) {
    const LinearWeight w1 = RandomWeight(one, {96, 256, 128});
    const LinearWeight w3 = RandomWeight(other, {96, 256, 64});
    const Tensor hidden = Uniform({1, 256});
    const Tensor norm = Uniform({256});
    const Tensor x = RmsNorm(hidden, norm, 1e-5);
    Tensor gate = Linear(x, w1);
    SiluMul_(gate, Linear(x, w3));
    EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, w1, w3).equal(gate));
  }
}

/// Fused ops know nothing of biases.
TEST_F(LinearPackedOp, FusedOpsKeepBiases) {
  for (const WeightPacking packing : kOfficial) {
    for (const auto& [first, second] : {std::pair{true, true}, {true, false}, {false, true}}) {
      LinearWeight w1 = RandomWeight(packing, {96, 256, 128});
      LinearWeight w3 = RandomWeight(packing, {96, 256, 128});
      if (first) w1.bias = Uniform({96}, 100.0).to(at::kHalf);
      if (second) w3.bias = Uniform({96}, 100.0).to(at::kHalf);
      for (const int64_t rows : {1, 33}) {
        const Tensor hidden = Uniform({rows, 256});
        const Tensor norm = Uniform({256});
        const Tensor x = RmsNorm(hidden, norm, 1e-5);
        Tensor gate = Linear(x, w1);
        SiluMul_(gate, Linear(x, w3));
        EXPECT_TRUE(NormGateUp(hidden, norm, 1e-5, w1, w3).equal(gate));
      }
    }
  }
}

TEST_F(LinearPackedOp, FusedOpsRefuseWhatDoesNotFit) {
  const LinearWeight w1 = RandomWeight(WeightPacking::kGptq8, {96, 256, 128});
  const LinearWeight wider = RandomWeight(WeightPacking::kGptq8, {104, 256, 128});
  const Tensor hidden = Uniform({1, 256});
  const Tensor norm = Uniform({256});
  ExpectInternalError([&] { NormGateUp(hidden, norm, 1e-5, w1, wider); },
                      "w1 has 96 outputs and w3 104");
  for (Tensor y : {at::zeros({1, 104}), at::zeros({2, 96}), at::zeros({96})}) {
    ExpectInternalError([&] { LinearAdd_(y, hidden, w1); }, "y must be [1, 96]");
  }
  Tensor lying = at::zeros({96, 2}).t();
  ExpectInternalError([&] { LinearAdd_(lying, Uniform({2, 256}), w1); }, "contiguous");
}

TEST_F(LinearPackedOp, DenseWeightIsTheDenseOp) {
  const Tensor x = Uniform({5, 17});
  const Tensor weight = Uniform({9, 17}).to(at::kBFloat16);
  EXPECT_TRUE(Linear(x, LinearWeight::Dense(weight)).equal(Linear(x, weight)));
}

TEST_F(LinearPackedOp, MetaGivesTheShape) {
  LinearWeight weight = RandomWeight(WeightPacking::kAwq4, {24, 136, 64});
  weight.data = weight.data.to(at::kMeta);
  weight.scales = weight.scales.to(at::kMeta);
  weight.zeros = weight.zeros.to(at::kMeta);
  const Tensor y = Linear(at::empty({2, 7, 136}, at::TensorOptions(at::kMeta)), weight);
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), at::IntArrayRef({2, 7, 24}));
}

TEST_F(LinearPackedOp, RefusesPartsThatDoNotFit) {
  const Tensor x = Uniform({2, 136});
  const LinearWeight good = RandomWeight(WeightPacking::kGptq4, {24, 136, 64});
  const auto expect = [&](const std::string& part, const auto& change) {
    LinearWeight weight = good;
    change(weight);
    ExpectInternalError([&] { Linear(x, weight); }, part);
  };
  expect("int32", [](LinearWeight& w) { w.data = w.data.to(at::kLong); });
  expect("dense int32", [](LinearWeight& w) { w.data = w.data.t(); });
  expect("groups of 60", [](LinearWeight& w) { w.group = 60; });
  expect("groups of 0", [](LinearWeight& w) { w.group = 0; });
  expect("scales", [](LinearWeight& w) { w.group = 32; });
  expect("scales", [](LinearWeight& w) { w.scales = w.scales.to(at::kFloat); });
  expect("zeros", [](LinearWeight& w) { w.zeros = w.zeros.slice(1, 0, 2).contiguous(); });
  expect("bias", [](LinearWeight& w) { w.bias = Uniform({23}); });
  expect("20 outputs", [](LinearWeight& w) { w.data = w.data.slice(1, 0, 20).contiguous(); });
  ExpectInternalError([&] { Linear(Uniform({2, 128}), good); }, "136 inputs");
}

TEST_F(LinearPackedOp, RefusesPanelsThatDoNotFit) {
  for (const WeightPacking packing : kOwn) {
    const LinearWeight good = RandomWeight(packing, {32, 264, 128});
    const Tensor x = Uniform({2, 264});
    Linear(x, good);
    const auto expect = [&](const std::string& part, const auto& change) {
      LinearWeight weight = good;
      change(weight);
      ExpectInternalError([&] { Linear(x, weight); }, part);
    };
    expect("panels of 16 outputs", [](LinearWeight& w) { w.data = w.data.flatten(1); });
    expect("panels of 16 outputs",
           [](LinearWeight& w) { w.data = w.data.slice(2, 0, 8).contiguous(); });
    expect("dense int32", [](LinearWeight& w) { w.data = w.data.transpose(0, 1); });
    expect("groups of 72", [](LinearWeight& w) { w.group = 72; });
    expect("groups of 0", [](LinearWeight& w) { w.group = 0; });
    expect("scales", [](LinearWeight& w) { w.group = 264; });
    expect("scales", [](LinearWeight& w) { w.scales = w.scales.flatten(0, 1); });
    expect("scales", [](LinearWeight& w) { w.scales = w.scales.slice(0, 0, 1).contiguous(); });
    expect("zeros", [](LinearWeight& w) { w.zeros = w.zeros.slice(2, 0, 1).contiguous(); });
    expect("bias", [](LinearWeight& w) { w.bias = Uniform({31}); });
  }
}

TEST_F(LinearPackedOp, QuantisedWeightsLieInLargePages) {
  const LinearWeight weight = Quantise(Uniform({2048, 2048}), 8, 128, "a weight").weight;
  const char* middle =
      static_cast<const char*>(weight.data.const_data_ptr()) + weight.data.nbytes() / 2;
  const std::string flags = testing_support::FlagsAt(middle);
  if (flags.empty()) GTEST_SKIP() << "the system does not show flags of memory";
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage")) {
    GTEST_SKIP() << "the system has no large pages";
  }
  EXPECT_NE(flags.find(" hg "), std::string::npos) << flags;
}

}  // namespace
}  // namespace xcomposer::ops
