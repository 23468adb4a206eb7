#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class MetaOps : public OpTest {};

Tensor Meta(const Tensor& t) { return t.to(at::kMeta); }

/// The shape that comes back without memory is that of the real run.
void ExpectSame(const Tensor& meta, const Tensor& real) {
  EXPECT_TRUE(meta.is_meta());
  EXPECT_EQ(meta.sizes(), real.sizes());
  EXPECT_EQ(meta.scalar_type(), real.scalar_type());
  EXPECT_EQ(meta.strides(), real.strides());
}

TEST_F(MetaOps, Linear) {
  for (const int64_t rows : {0, 1, 19}) {
    const Tensor x = Uniform({2, rows, 65});
    const Tensor weight = Uniform({17, 65}).to(at::kBFloat16);
    const Tensor bias = Uniform({17});
    ExpectSame(Linear(Meta(x), Meta(weight), Meta(bias)), Linear(x, weight, bias));
  }
  Tensor y = Meta(Uniform({5, 4}));
  LinearAddRows_(y, Meta(Uniform({5, 6})), Meta(Uniform({2, 6})), Meta(Uniform({4, 2})), {1, 3},
                 2.0);
  ExpectInternalError(
      [&] {
        Linear(Meta(Uniform({3, 5})), Meta(Uniform({3, 6})));
      },
      "does not fit");
}

TEST_F(MetaOps, Rows) {
  const Tensor x = Uniform({3, 19});
  const Tensor weight = Uniform({19});
  ExpectSame(RmsNorm(Meta(x), Meta(weight)), RmsNorm(x, weight));
  ExpectSame(LayerNorm(Meta(x), Meta(weight), Meta(weight)), LayerNorm(x, weight, weight));
  Tensor y = Meta(x);
  QuickGelu_(y);
  Gelu_(y);
  SiluMul_(y, Meta(x));
  Add_(y, Meta(x));
  CopyBlocks_(y, {0}, {1});
  Tensor int8 = Meta(at::zeros({2, 3}, at::kChar));
  CopyBlocks_(int8, {0}, {1});
  ExpectSame(Embedding(Meta(Ints({1, 2})), Meta(x)), Embedding(Ints({1, 2}), x));
  ExpectInternalError([&] { Add_(y, Meta(Uniform({3, 18}))); }, "shapes differ");
}

TEST_F(MetaOps, Attention) {
  const Tensor qkv = Uniform({5, 8 * 4});
  const Tensor slots = at::arange(5, at::kLong);
  Tensor k = Uniform({2, 3, 2, 4});
  Tensor v = Uniform({2, 3, 2, 4});
  Tensor k_meta = Meta(k);
  Tensor v_meta = Meta(v);
  const Tensor inverse = Uniform({1, 2});
  const Tensor tables = at::zeros({5}, at::kInt);
  const Tensor positions = slots.to(at::kInt);
  const auto [cos, sin] = RopeTable(inverse, tables, positions);
  const auto [cos_meta, sin_meta] = RopeTable(Meta(inverse), Meta(tables), Meta(positions));
  ExpectSame(cos_meta, cos);
  ExpectSame(sin_meta, sin);
  const Tensor q = RopeKv(qkv, cos, sin, k, v, slots);
  const Tensor q_meta = RopeKv(Meta(qkv), cos_meta, sin_meta, k_meta, v_meta, Meta(slots));
  ExpectSame(q_meta, q);
  const SequenceTable table{.first_rows = Ints({0}),
                            .row_counts = Ints({5}),
                            .positions = Ints({0}),
                            .block_tables = Ints({0, 1}).view({1, 2})};
  const SequenceTable table_meta{.first_rows = Meta(table.first_rows),
                                 .row_counts = Meta(table.row_counts),
                                 .positions = Meta(table.positions),
                                 .block_tables = Meta(table.block_tables)};
  ExpectSame(PagedAttention(q_meta, k_meta, v_meta, table_meta), PagedAttention(q, k, v, table));
  // In int8 a head of 4 numbers takes 34 bytes.
  Tensor int8 = at::zeros({2, 3, 2, 34}, at::kChar);
  Tensor int8_meta = Meta(int8);
  ExpectSame(RopeKv(Meta(qkv), cos_meta, sin_meta, int8_meta, int8_meta, Meta(slots)), q);
  ExpectSame(PagedAttention(q_meta, int8_meta, int8_meta, table_meta),
             PagedAttention(q, int8, int8, table));
  Tensor narrow = Meta(at::zeros({2, 3, 2, 4}, at::kChar));
  ExpectInternalError([&] { PagedAttention(q_meta, narrow, narrow, table_meta); }, "kv_heads, 34");
  const Tensor views = Uniform({2, 5, 3, 8});
  ExpectSame(VisionAttention(Meta(views), Meta(views), Meta(views)),
             VisionAttention(views, views, views));
}

}  // namespace
}  // namespace xcomposer::ops
