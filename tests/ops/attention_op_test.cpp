#include "kernels/cpu/kv_format.h"
#include "ops/op_testing.h"
#include "ops/ops.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class AttentionOp : public OpTest {};

struct Heads {
  int64_t heads, kv_heads, dim, block_size;
};

struct Slice {
  int64_t rows, position;
};

/// A ragged batch whose blocks lie scattered over the cache.
struct Ragged {
  Ragged(const Heads& h, const std::vector<Slice>& slices) {
    std::vector<int32_t> first, counts, at;
    int64_t widest = 0;
    int64_t blocks = 1;
    for (const Slice& slice : slices) {
      first.push_back(static_cast<int32_t>(rows));
      counts.push_back(static_cast<int32_t>(slice.rows));
      at.push_back(static_cast<int32_t>(slice.position));
      rows += slice.rows;
      const int64_t used = (slice.position + slice.rows + h.block_size - 1) / h.block_size;
      widest = std::max(widest, used);
      blocks += used;
    }
    Tensor tables = at::full({static_cast<int64_t>(slices.size()), widest}, -1, at::kInt);
    int64_t next = blocks - 1;
    for (size_t s = 0; s < slices.size(); ++s) {
      const int64_t length = slices[s].position + slices[s].rows;
      for (int64_t i = 0; i * h.block_size < length; ++i) {
        tables[static_cast<int64_t>(s)][i] = next--;
      }
    }
    table = {.first_rows = at::tensor(first, at::kInt),
             .row_counts = at::tensor(counts, at::kInt),
             .positions = at::tensor(at, at::kInt),
             .block_tables = tables};
    q = Uniform({rows, h.heads, h.dim}, 4.0);
    k_cache = Uniform({blocks, h.block_size, h.kv_heads, h.dim});
    v_cache = Uniform({blocks, h.block_size, h.kv_heads, h.dim});
  }

  int64_t rows = 0;
  SequenceTable table;
  Tensor q, k_cache, v_cache;
};

/// Scores: D products of magnitudes up to 4 and 1, over sqrt(D); values up to 1. The error of a
/// score enters the exponent; the sums over keys add a rounding per key.
double Budget(int64_t dim, int64_t keys) {
  const double magnitude = 4.0 * std::sqrt(static_cast<double>(dim));
  return 2 * (Gamma(dim + 2) + 4 * kUnit) * magnitude + 2 * Gamma(keys + keys / 32 + 12);
}

const Heads kHeads[] = {{4, 2, 8, 3}, {8, 2, 64, 16}, {4, 4, 34, 7}, {8, 2, 128, 16}};
const std::vector<Slice> kSlices = {{1, 98}, {19, 0}, {0, 0}, {17, 65}, {1, 0}, {65, 3}};

TEST_F(AttentionOp, PagedAgreesWithReference) {
  for (const Heads& heads : kHeads) {
    const Ragged c(heads, kSlices);
    const Tensor expected = reference::PagedAttention(c.q, c.k_cache, c.v_cache, c.table);
    ExpectWithin(PagedAttention(c.q, c.k_cache, c.v_cache, c.table), expected,
                 at::full_like(expected, Budget(heads.dim, 99)));
  }
}

TEST_F(AttentionOp, RaggedBatchEqualsItsSequencesOneByOne) {
  for (const Heads& heads : kHeads) {
    const Ragged c(heads, kSlices);
    const Tensor together = PagedAttention(c.q, c.k_cache, c.v_cache, c.table);
    for (size_t s = 0; s < kSlices.size(); ++s) {
      const auto i = static_cast<int64_t>(s);
      const int64_t first = c.table.first_rows[i].item<int32_t>();
      const Tensor q = c.q.slice(0, first, first + kSlices[s].rows);
      const SequenceTable alone{.first_rows = Ints({0}),
                                .row_counts = c.table.row_counts.slice(0, i, i + 1),
                                .positions = c.table.positions.slice(0, i, i + 1),
                                .block_tables = c.table.block_tables.slice(0, i, i + 1)};
      const Tensor single = PagedAttention(q, c.k_cache, c.v_cache, alone);
      EXPECT_TRUE(single.equal(together.slice(0, first, first + kSlices[s].rows))) << s;
    }
  }
}

/// What a cache in int8 keeps, as float32 and in the shape of one: `kept` of `cache` (float32).
struct Rounded {
  explicit Rounded(const Tensor& cache)
      : kept(at::full({cache.size(0), cache.size(1), cache.size(2),
                       cpu::KvHeadBytes(cpu::KvFormat::kInt8, cache.size(3))},
                      0x55, at::kChar)) {
    const int64_t dim = cache.size(3);
    const int64_t groups = cpu::KvGroups(dim);
    const Tensor heads = cache.reshape({-1, dim});
    const Tensor places = kept.view({heads.size(0), -1});
    for (int64_t head = 0; head < heads.size(0); ++head) {
      cpu::RoundKvHead(heads[head].const_data_ptr<float>(), dim, places[head].mutable_data_ptr());
    }
    const Tensor codes = places.slice(1, 0, 32 * groups).reshape({-1, groups, 32});
    const Tensor scales = places.slice(1, 32 * groups).contiguous().view(at::kBFloat16);
    numbers = (codes.to(at::kFloat) * scales.to(at::kFloat).unsqueeze(2))
                  .flatten(1)
                  .slice(1, 0, dim)
                  .reshape(cache.sizes())
                  .contiguous();
  }

  Tensor kept;     // (blocks, block_size, G, bytes of a head)
  Tensor numbers;  // (blocks, block_size, G, D)
};

TEST_F(AttentionOp, Int8CachesAreTheirNumbers) {
  for (const Heads& heads : kHeads) {
    const Ragged c(heads, kSlices);
    const Rounded k(c.k_cache);
    const Rounded v(c.v_cache);
    const Tensor expected = reference::PagedAttention(c.q, k.numbers, v.numbers, c.table);
    ExpectWithin(PagedAttention(c.q, k.kept, v.kept, c.table), expected,
                 at::full_like(expected, Budget(heads.dim, 99)));
  }
}

TEST_F(AttentionOp, RopeKvRoundsWhatItWouldHaveStored) {
  for (const Heads& heads : kHeads) {
    const Tensor qkv = Uniform({19, (heads.heads + 2 * heads.kv_heads) * heads.dim});
    const Tensor angles = Uniform({19, heads.dim / 2}, 3.0);
    const Tensor slots = at::arange(19, at::kLong) + 2;
    Tensor k = at::zeros({9, heads.block_size, heads.kv_heads, heads.dim});
    Tensor v = at::zeros({9, heads.block_size, heads.kv_heads, heads.dim});
    Tensor k8 = Rounded(k).kept;
    Tensor v8 = Rounded(v).kept;
    const Tensor q = RopeKv(qkv, angles.cos(), angles.sin(), k, v, slots);
    EXPECT_TRUE(RopeKv(qkv, angles.cos(), angles.sin(), k8, v8, slots).equal(q));
    EXPECT_TRUE(k8.equal(Rounded(k).kept));
    EXPECT_TRUE(v8.equal(Rounded(v).kept));
  }
}

TEST_F(AttentionOp, EmptyBatch) {
  const Ragged c({4, 2, 8, 3}, {});
  EXPECT_EQ(PagedAttention(c.q, c.k_cache, c.v_cache, c.table).sizes(), at::IntArrayRef({0, 4, 8}));
}

TEST_F(AttentionOp, RefusesTablesThatLeaveTheCache) {
  const Heads heads{4, 2, 8, 3};
  Ragged c(heads, {{5, 0}, {1, 17}});
  const auto run = [&](const SequenceTable& table) {
    return [&c, table] { PagedAttention(c.q, c.k_cache, c.v_cache, table); };
  };
  SequenceTable table = c.table;
  table.positions = Ints({0, 18});
  ExpectInternalError(run(table), "needs 7 blocks");
  table = c.table;
  table.row_counts = Ints({4, 1});
  ExpectInternalError(run(table), "expected 4");
  table = c.table;
  table.row_counts = Ints({5, 0});
  ExpectInternalError(run(table), "cover 5 of 6");
  table = c.table;
  table.block_tables = c.table.block_tables.clone();
  table.block_tables[1][2] = static_cast<int64_t>(c.k_cache.size(0));
  ExpectInternalError(run(table), "outside of a cache");
}

TEST_F(AttentionOp, VisionAgreesWithReference) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{
           {0, 5, 2, 8}, {1, 1, 1, 1}, {2, 17, 3, 64}, {1, 257, 2, 64}, {3, 99, 1, 20}}) {
    const Tensor q = Uniform(shape, 4.0);
    const Tensor k = Uniform(shape);
    const Tensor v = Uniform(shape);
    const Tensor expected = reference::VisionAttention(q, k, v);
    ExpectWithin(VisionAttention(q, k, v), expected,
                 at::full_like(expected, Budget(shape[3], shape[1])));
  }
}

TEST_F(AttentionOp, RopeTableFollowsTheRecipe) {
  const Tensor tables = Ints({2, 2, 0, 1});
  const Tensor positions = Ints({0, 1289, 32767, 5});
  for (const int64_t half : {1, 32, 64}) {
    const Tensor inverse = Uniform({3, half});
    const auto [cos, sin] = RopeTable(inverse, tables, positions);
    const auto [cos_reference, sin_reference] = reference::RopeTable(inverse, tables, positions);
    // The angle is a float32 product on either side; cosine and sine are rounded once.
    ExpectWithin(cos, cos_reference, at::full_like(cos_reference, kUnit));
    ExpectWithin(sin, sin_reference, at::full_like(sin_reference, kUnit));
  }
}

TEST_F(AttentionOp, RopeKvRotatesAndStores) {
  for (const Heads& heads : kHeads) {
    for (const int64_t rows : {0, 1, 19}) {
      const int64_t width = (heads.heads + 2 * heads.kv_heads) * heads.dim;
      const Tensor qkv = Uniform({rows, width});
      const Tensor angles = Uniform({rows, heads.dim / 2}, 3.0);
      const Tensor cos = angles.cos();
      const Tensor sin = angles.sin();
      Tensor k_cache = Uniform({9, heads.block_size, heads.kv_heads, heads.dim});
      Tensor v_cache = Uniform({9, heads.block_size, heads.kv_heads, heads.dim});
      const Tensor k_before = k_cache.clone();
      const Tensor slots = at::arange(rows, at::kLong) + 2;
      const Tensor q = RopeKv(qkv, cos, sin, k_cache, v_cache, slots);
      const auto expected = reference::RopeKv(qkv, cos, sin, heads.kv_heads, heads.dim);
      const Tensor budget = at::full({1}, Gamma(2) * 2, at::kDouble);
      ExpectWithin(q, expected.q, budget.expand_as(expected.q));
      const Tensor keys = k_cache.view({-1, heads.kv_heads, heads.dim});
      const Tensor values = v_cache.view({-1, heads.kv_heads, heads.dim});
      ExpectWithin(keys.slice(0, 2, 2 + rows), expected.k, budget.expand_as(expected.k));
      ExpectWithin(values.slice(0, 2, 2 + rows), expected.v, at::zeros_like(expected.v));
      EXPECT_TRUE(keys.slice(0, 2 + rows)
                      .equal(k_before.view({-1, heads.kv_heads, heads.dim}).slice(0, 2 + rows)));
    }
  }
}

}  // namespace
}  // namespace xcomposer::ops
