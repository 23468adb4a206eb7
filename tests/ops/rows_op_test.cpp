#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class RowsOp : public OpTest {};

const std::vector<std::vector<int64_t>> kShapes = {{0, 17},   {1, 1},     {3, 19}, {17, 65},
                                                   {99, 257}, {2, 3, 64}, {65, 3}, {5}};

TEST_F(RowsOp, RmsNorm) {
  for (const at::ScalarType type : kStoredTypes) {
    for (const auto& shape : kShapes) {
      const Tensor x = Uniform(shape, 20.0);
      const Tensor weight = Uniform({shape.back()}, 2.0).to(type);
      const Tensor expected = reference::RmsNorm(x, weight, 1e-5);
      ExpectWithin(RmsNorm(x, weight, 1e-5), expected,
                   expected.abs() * Gamma(shape.back() / 2 + 8));
    }
  }
}

TEST_F(RowsOp, SiluMulOfRowsThatLieApart) {
  const Tensor all = Uniform({5, 60}, 3.0);
  const Tensor before = all.clone();
  Tensor gate = all.narrow(1, 2, 19);
  SiluMul_(gate, all.narrow(1, 30, 19));
  const Tensor expected = reference::SiluMul(before.narrow(1, 2, 19), before.narrow(1, 30, 19));
  ExpectWithin(gate.contiguous(), expected, expected.abs() * Gamma(17));
  EXPECT_TRUE(all.narrow(1, 21, 39).equal(before.narrow(1, 21, 39)));
  ExpectInternalError([&] { SiluMul_(gate, before.narrow(1, 30, 19).contiguous()); }, "differ");
}

TEST_F(RowsOp, RmsNormGoesWhereItsResultLies) {
  const Tensor x = Uniform({5, 19});
  const Tensor weight = Uniform({19});
  const Tensor all = Uniform({5, 30});
  const Tensor before = all.clone();
  Tensor out = all.narrow(1, 7, 19);
  RmsNormInto_(out, x, weight, 1e-5);
  EXPECT_TRUE(out.equal(RmsNorm(x, weight, 1e-5)));
  EXPECT_TRUE(all.narrow(1, 0, 7).equal(before.narrow(1, 0, 7)));
  EXPECT_TRUE(all.narrow(1, 26, 4).equal(before.narrow(1, 26, 4)));
}

TEST_F(RowsOp, LayerNorm) {
  for (const at::ScalarType type : kStoredTypes) {
    for (const auto& shape : kShapes) {
      const int64_t columns = shape.back();
      const Tensor x = Uniform(shape, 2.0);
      const Tensor weight = Uniform({columns}).to(type);
      const Tensor bias = Uniform({columns}).to(type);
      const Tensor expected = reference::LayerNorm(x, weight, bias, 1e-5);
      // Every difference from the mean is off by the mean's own error, at most this much.
      const double mean_error = (Gamma(columns + 1) + 3 * kUnit) * 2.0;
      const Tensor wide = reference::Wide(x);
      const Tensor factor = at::rsqrt((wide - wide.mean(-1, true)).square().mean(-1, true) + 1e-5);
      const Tensor normal = ((expected - reference::Wide(bias)) / reference::Wide(weight)).abs();
      const Tensor budget =
          reference::Wide(weight).abs() *
              (mean_error * factor * (1 + 2 * normal) + normal * Gamma(columns / 2 + 9)) +
          Gamma(2) * (expected.abs() + 2 * reference::Wide(bias).abs());
      ExpectWithin(LayerNorm(x, weight, bias, 1e-5), expected, budget.nan_to_num(1e-5));
    }
  }
}

TEST_F(RowsOp, Activations) {
  for (const auto& shape : kShapes) {
    const Tensor x = Uniform(shape, 8.0);
    const Tensor up = Uniform(shape, 3.0);
    Tensor y = x.clone();
    QuickGelu_(y);
    ExpectWithin(y, reference::QuickGelu(x), reference::QuickGelu(x).abs() * Gamma(24));
    y = x.clone();
    Gelu_(y);
    ExpectWithin(y, reference::Gelu(x), reference::Wide(x).abs() * Gamma(4));
    y = x.clone();
    SiluMul_(y, up);
    ExpectWithin(y, reference::SiluMul(x, up), reference::SiluMul(x, up).abs() * Gamma(17));
    y = x.clone();
    Add_(y, up);
    EXPECT_TRUE(y.equal(x + up));
  }
}

TEST_F(RowsOp, Embedding) {
  for (const at::ScalarType type : kStoredTypes) {
    const Tensor table = Uniform({19, 67}).to(type).slice(1, 0, 65);
    for (const at::ScalarType id_type : {at::kInt, at::kLong}) {
      const Tensor ids = Ints({18, 0, -1, 7, 7}).to(id_type);
      const Tensor expected = reference::Embedding(ids, table);
      ExpectWithin(Embedding(ids, table), expected, at::zeros_like(expected));
    }
    EXPECT_EQ(Embedding(at::empty({0}, at::kInt), table).sizes(), at::IntArrayRef({0, 65}));
    ExpectInternalError([&] { Embedding(Ints({0, 19}), table); }, "id 19 at row 1");
  }
}

TEST_F(RowsOp, CopyBlocksInOrder) {
  Tensor cache = Uniform({5, 3, 2, 4});
  const Tensor before = cache.clone();
  CopyBlocks_(cache, {}, {});
  EXPECT_TRUE(cache.equal(before));
  CopyBlocks_(cache, {0, 1, 2}, {1, 3, 2});
  EXPECT_TRUE(cache[1].equal(before[0]));
  EXPECT_TRUE(cache[3].equal(before[0]));  // after the first copy
  EXPECT_TRUE(cache[2].equal(before[2]));
  EXPECT_TRUE(cache[4].equal(before[4]));
  ExpectInternalError([&] { CopyBlocks_(cache, {0}, {5}); }, "block 0 to 5");
}

TEST_F(RowsOp, CopyBlocksTakesInt8AndNothingElse) {
  Tensor cache = at::randint(-127, 127, {4, 3, 2, 34}).to(at::kChar);
  const Tensor before = cache.clone();
  CopyBlocks_(cache, {1, 2}, {3, 1});
  EXPECT_TRUE(cache[0].equal(before[0]));
  EXPECT_TRUE(cache[1].equal(before[2]));
  EXPECT_TRUE(cache[2].equal(before[2]));
  EXPECT_TRUE(cache[3].equal(before[1]));
  Tensor other = before.to(at::kByte);
  ExpectInternalError([&] { CopyBlocks_(other, {0}, {1}); }, "on the CPU, int8");
  Tensor apart = before.transpose(1, 2);
  ExpectInternalError([&] { CopyBlocks_(apart, {0}, {1}); }, "contiguous");
}

}  // namespace
}  // namespace xcomposer::ops
