#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class Arguments : public OpTest {};

TEST_F(Arguments, LinearNamesWhatIsWrong) {
  const Tensor x = Uniform({3, 8});
  const Tensor weight = Uniform({5, 8});
  ExpectInternalError([&] { Linear(x.to(at::kDouble), weight); },
                      "x must be a matrix of activations");
  ExpectInternalError([&] { Linear(x.t(), weight); }, "with dense rows");
  ExpectInternalError(
      [&] {
        Linear(Uniform({2, 3, 9}).slice(2, 0, 8), weight);
      },
      "x must be contiguous activations");
  ExpectInternalError([&] { Linear(x, weight.to(at::kDouble)); }, "weight must be a bfloat16");
  ExpectInternalError([&] { Linear(x, Uniform({8, 5}).t()); }, "dense rows");
  ExpectInternalError([&] { Linear(x, Uniform({5, 7})); }, "does not fit");
  ExpectInternalError([&] { Linear(x, weight, Uniform({6})); }, "bias must be a dense");
}

TEST_F(Arguments, PlacesOfResultsNameWhatIsWrong) {
  Tensor y = Uniform({3, 5});
  const Tensor x = Uniform({3, 8});
  const Tensor weight = Uniform({5, 8});
  const auto into = [](const Tensor& to, const Tensor& from, const Tensor& by) {
    return [to, from, by] {
      Tensor result = to;
      LinearInto_(result, from, by);
    };
  };
  ExpectInternalError(into(y, x, Uniform({5, 7})), "do not fit");
  ExpectInternalError(into(Uniform({3, 4}), x, weight), "do not fit");
  ExpectInternalError(into(Uniform({2, 5}), x, weight), "do not fit");
  ExpectInternalError(into(Uniform({5, 3}).t(), x, weight), "dense rows");
  ExpectInternalError(into(y.to(at::kDouble), x, weight), "must be activations");
  ExpectInternalError(into(y, x, weight.unsqueeze(0)), "expected three matrices");
  ExpectInternalError(into(Uniform({3, 2, 5}), Uniform({3, 2, 8}), Uniform({3, 5, 8})),
                      "do not fit");
  ExpectInternalError(into(Uniform({3, 2, 5}), Uniform({3, 1, 8}), Uniform({2, 5, 8})),
                      "do not fit");
  ExpectInternalError([&] { RmsNormInto_(y, x, Uniform({8}), 1e-5); }, "out must be [3, 8]");
}

TEST_F(Arguments, SpansMustBeInOrderAndInside) {
  Tensor y = Uniform({10, 4});
  const Tensor x = Uniform({10, 6});
  const Tensor a = Uniform({2, 6});
  const Tensor b = Uniform({4, 2});
  const auto run = [&](std::vector<int64_t> spans) {
    return [&, spans] { LinearAddRows_(y, x, a, b, spans, 1.0); };
  };
  ExpectInternalError(run({0}), "pairs");
  ExpectInternalError(run({0, 11}), "out of order or outside");
  ExpectInternalError(run({5, 4}), "out of order or outside");
  ExpectInternalError(run({4, 6, 5, 7}), "out of order or outside");
  ExpectInternalError(run({-1, 2}), "out of order or outside");
  ExpectInternalError([&] { LinearAddRows_(y, x, b, a, {}, 1.0); }, "do not fit");
}

TEST_F(Arguments, RowsAndActivations) {
  Tensor x = Uniform({3, 8});
  ExpectInternalError([&] { RmsNorm(x, Uniform({7})); }, "weight must be a dense");
  ExpectInternalError([&] { LayerNorm(x, Uniform({8}), Uniform({7})); }, "bias must be a dense");
  ExpectInternalError([&] { SiluMul_(x, Uniform({3, 7})); }, "shapes differ");
  Tensor wide = x.to(at::kDouble);
  ExpectInternalError([&] { QuickGelu_(wide); }, "contiguous activations");
  ExpectInternalError([&] { Embedding(Uniform({3}), x); }, "ids must be");
}

TEST_F(Arguments, Attention) {
  const Tensor qkv = Uniform({3, 8 * 4});
  const Tensor angles = Uniform({3, 2});
  const Tensor slots = at::arange(3, at::kLong);
  Tensor k = Uniform({2, 3, 2, 4});
  Tensor v = Uniform({2, 3, 2, 4});
  RopeKv(qkv, angles, angles, k, v, slots);
  ExpectInternalError([&] { RopeKv(qkv.slice(1, 0, 30), angles, angles, k, v, slots); },
                      "does not divide");
  ExpectInternalError([&] { RopeKv(qkv, Uniform({3, 3}), angles, k, v, slots); }, "cos and sin");
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, k, v, slots + 4); }, "slot 6 of row 2");
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, k, v, slots.to(at::kInt)); }, "slots");
  // In int8 a head of 4 numbers takes a group of 32 codes and a scale of 2 bytes.
  Tensor k8 = at::zeros({2, 3, 2, 34}, at::kChar);
  Tensor v8 = at::zeros({2, 3, 2, 34}, at::kChar);
  RopeKv(qkv, angles, angles, k8, v8, slots);
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, k8, v, slots); }, "on the CPU, int8");
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, k, v8, slots); }, "on the CPU, int8");
  Tensor bytes = k8.to(at::kByte);
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, bytes, bytes, slots); }, "int8");
  Tensor narrow = at::zeros({2, 3, 2, 4}, at::kChar);
  ExpectInternalError([&] { RopeKv(qkv, angles, angles, narrow, narrow, slots); },
                      "(blocks, block_size, kv_heads, 34)");
  const Tensor q = Uniform({3, 4, 4});
  const SequenceTable table{.first_rows = Ints({0}),
                            .row_counts = Ints({3}),
                            .positions = Ints({0}),
                            .block_tables = Ints({0, 1}).view({1, 2})};
  PagedAttention(q, k8, v8, table);
  ExpectInternalError([&] { PagedAttention(q, k8, v, table); }, "on the CPU, int8");
  ExpectInternalError([&] { PagedAttention(q, narrow, narrow, table); }, "kv_heads, 34)");
  ExpectInternalError([&] { RopeTable(angles, slots, slots.to(at::kInt)); }, "tables");
  ExpectInternalError([&] { RopeTable(angles.to(at::kDouble), Ints({0}), Ints({0})); },
                      "inverse frequencies");
  ExpectInternalError(
      [&] {
        RopeTable(angles, Ints({0, 3}), Ints({0, 1}));
      },
      "row 1 takes table 3");
  ExpectInternalError([&] { VisionAttention(k, v, Uniform({2, 3, 2, 5})); }, "must be equal");
}

}  // namespace
}  // namespace xcomposer::ops
