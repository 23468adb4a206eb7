#include "kernels/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/guarded.h"
#include "kernels/kept_heads.h"
#include "kernels/kernel_tables.h"

namespace xcomposer::cpu {
namespace {

class AttentionTest : public testing::TestWithParam<Kernels> {
 protected:
  const IsaKernels& kernels() const { return *GetParam().kernels; }
  ThreadPool pool_{3};
};

struct Key {
  const float* k;
  const float* v;
};

/// One query against its keys, in double. The budget: a score is a sum of D products, off by
/// Gamma(D + 2) of its magnitude; that error enters the exponent, beside the exponential's own few
/// units and the units of its argument; a probability and a weighted sum over n keys add n +
/// (blocks) roundings. Where numbers are rounded to bfloat16, a probability is off by half a unit
/// of its eight digits besides.
void ExpectRow(const float* q, const std::vector<Key>& keys, int64_t dim, const Kernels& kernels,
               const float* out) {
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  std::vector<double> scores;
  double score_error = 0;
  double largest = 0;
  for (const Key& key : keys) {
    double sum = 0;
    double magnitude = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const double product = static_cast<double>(kernels.Counted(q[d])) * kernels.Counted(key.k[d]);
      sum += product;
      magnitude += std::abs(product);
    }
    scores.push_back(sum * scale);
    score_error = std::max(score_error, Gamma(dim + 2) * magnitude * scale);
    largest = std::max(largest, std::abs(sum * scale));
  }
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) {
    score = std::exp(score - maximum);
    total += score;
  }
  const auto n = static_cast<int64_t>(keys.size());
  const double relative = 2 * (score_error + 2 * largest * 2 * kUnit) + 2 * Gamma(n + n / 32 + 12) +
                          (kernels.rounds && n > 1 ? 0x1p-8 : 0);
  for (int64_t d = 0; d < dim; ++d) {
    double expected = 0;
    double magnitude = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      const double value = kernels.Counted(keys[i].v[d]);
      expected += scores[i] / total * value;
      magnitude += scores[i] / total * std::abs(value);
    }
    ASSERT_NEAR(out[d], expected, relative * magnitude) << "at " << d;
  }
}

struct Slice {
  int64_t rows, position;
};

struct PagedCase {
  int64_t heads, kv_heads, dim, block_size;
  std::vector<Slice> slices;
};

class PagedAttentionTest : public testing::TestWithParam<std::tuple<Kernels, KvFormat>> {
 protected:
  const Kernels& kernels() const { return std::get<0>(GetParam()); }
  ThreadPool pool_{3};
};

/// Puts numbers (heads, dim) into a cache, and what they are worth there in their place.
void Keep(Guarded<float>& numbers, int64_t dim, KeptHeads& kept) {
  for (int64_t head = 0; head < numbers.size() / dim; ++head) {
    kept.Keep(head, numbers.data() + head * dim);
    for (int64_t d = 0; d < dim; ++d) numbers[head * dim + d] = kept.Number(head, d);
  }
}

TEST_P(PagedAttentionTest, AgreesWithDouble) {
  const KvFormat format = std::get<1>(GetParam());
  const PagedCase cases[] = {
      {1, 1, 1, 1, {{1, 0}}},
      {4, 2, 8, 3, {{5, 0}, {0, 0}, {1, 17}}},
      {8, 2, 64, 16, {{1, 0}, {1, 98}, {1, 255}}},
      {8, 2, 128, 16, {{33, 0}, {1, 64}, {19, 130}}},
      {2, 2, 34, 7, {{99, 3}, {65, 0}}},
      {5, 1, 20, 16, {{130, 0}}},
      {100, 1, 4, 5, {{3, 2}}},
      {4, 2, 9, 4, {{6, 0}, {33, 70}}},
      // Rows of decoding, whose keys are cut into ranges: at the cut, in several groups of heads,
      // more ranges than are held at a time.
      {8, 2, 64, 16, {{1, 255}, {1, 256}, {1, 257}, {1, 700}, {1, 1023}}},
      {6, 2, 20, 5, {{1, 600}}},
      {3, 3, 34, 7, {{1, 300}, {2, 5}, {1, 0}}},
      {14, 2, 9, 16, {{1, 520}}},
      {1, 1, 1, 1, {{1, 513}}},
      {2, 1, 4, 16, {{1, 8400}, {1, 9001}, {1, 8192}, {1, 30}}},
      // So many tiles that several share a task, and see unlike numbers of keys.
      {12, 12, 4, 16, {{331, 0}, {7, 90}}},
      {12, 4, 9, 5, {{250, 61}}},
  };
  Random random(1);
  for (const PagedCase& c : cases) {
    SCOPED_TRACE(testing::Message() << c.heads << " heads of " << c.dim);
    int64_t rows = 0;
    int64_t blocks = 1;  // block 0 belongs to nobody
    std::vector<std::vector<int32_t>> tables;
    std::vector<AttentionSequence> sequences;
    for (const Slice& slice : c.slices) {
      auto& table = tables.emplace_back();
      for (int64_t key = 0; key < slice.position + slice.rows; key += c.block_size) {
        table.push_back(static_cast<int32_t>(blocks++));
      }
      std::reverse(table.begin(), table.end());  // the blocks of a sequence need not be in order
    }
    for (size_t s = 0; s < c.slices.size(); ++s) {
      sequences.push_back({.first_row = rows,
                           .row_count = c.slices[s].rows,
                           .position = c.slices[s].position,
                           .block_table = tables[s].data()});
      rows += c.slices[s].rows;
    }
    const int64_t key_stride = c.kv_heads * c.dim;
    Guarded<float> q(rows * c.heads * c.dim);
    Guarded<float> out(rows * c.heads * c.dim);
    Guarded<float> k_cache(blocks * c.block_size * key_stride);
    Guarded<float> v_cache(blocks * c.block_size * key_stride);
    random.Fill(q, 5.0f);
    random.Fill(k_cache);
    random.Fill(v_cache);
    // What must not be looked at is not a number: the foreign block, and keys past a sequence's
    // end.
    const auto forget = [&](int64_t slot) {
      for (int64_t i = 0; i < key_stride; ++i) {
        k_cache[slot * key_stride + i] = NAN;
        v_cache[slot * key_stride + i] = NAN;
      }
    };
    for (int64_t slot = 0; slot < c.block_size; ++slot) forget(slot);
    for (size_t s = 0; s < c.slices.size(); ++s) {
      const int64_t length = c.slices[s].position + c.slices[s].rows;
      for (int64_t key = length; key < static_cast<int64_t>(tables[s].size()) * c.block_size;
           ++key) {
        forget(tables[s][static_cast<size_t>(key / c.block_size)] * c.block_size +
               key % c.block_size);
      }
    }
    KeptHeads k_kept(blocks * c.block_size * c.kv_heads, c.dim, format);
    KeptHeads v_kept(blocks * c.block_size * c.kv_heads, c.dim, format);
    Keep(k_cache, c.dim, k_kept);
    Keep(v_cache, c.dim, v_kept);
    PagedAttention({.q = q.data(),
                    .out = out.data(),
                    .heads = c.heads,
                    .kv_heads = c.kv_heads,
                    .head_dim = c.dim,
                    .k_cache = k_kept.data(),
                    .v_cache = v_kept.data(),
                    .format = format,
                    .block_size = c.block_size,
                    .sequences = sequences.data(),
                    .sequence_count = static_cast<int64_t>(sequences.size())},
                   pool_, *kernels().kernels);
    for (size_t s = 0; s < c.slices.size(); ++s) {
      Kernels of_sequence = kernels();
      if (c.slices[s].rows == 1) of_sequence.rounds = false;
      for (int64_t row = 0; row < c.slices[s].rows; ++row) {
        for (int64_t head = 0; head < c.heads; ++head) {
          SCOPED_TRACE(testing::Message()
                       << "sequence " << s << ", row " << row << ", head " << head);
          std::vector<Key> keys;
          for (int64_t key = 0; key <= c.slices[s].position + row; ++key) {
            const int64_t slot = tables[s][static_cast<size_t>(key / c.block_size)] * c.block_size +
                                 key % c.block_size;
            const int64_t offset = slot * key_stride + head / (c.heads / c.kv_heads) * c.dim;
            keys.push_back({k_cache.data() + offset, v_cache.data() + offset});
          }
          const int64_t query = ((sequences[s].first_row + row) * c.heads + head) * c.dim;
          ASSERT_NO_FATAL_FAILURE(
              ExpectRow(q.data() + query, keys, c.dim, of_sequence, out.data() + query));
        }
      }
    }
  }
}

TEST_P(AttentionTest, VisionAgreesWithDouble) {
  struct Views {
    int64_t views, rows, heads, dim;
  };
  const Views cases[] = {{1, 1, 1, 1},  {2, 3, 2, 8},    {1, 17, 3, 64}, {2, 99, 1, 20},
                         {1, 40, 3, 9}, {1, 130, 2, 64}, {1, 257, 1, 64}};
  Random random(2);
  for (const auto& [views, rows, heads, dim] : cases) {
    SCOPED_TRACE(testing::Message() << views << " x " << rows << " x " << heads << " x " << dim);
    const int64_t size = views * rows * heads * dim;
    Guarded<float> q(size);
    Guarded<float> k(size);
    Guarded<float> v(size);
    Guarded<float> out(size);
    random.Fill(q, 4.0f);
    random.Fill(k);
    random.Fill(v);
    VisionAttention({.q = q.data(),
                     .k = k.data(),
                     .v = v.data(),
                     .out = out.data(),
                     .views = views,
                     .rows = rows,
                     .heads = heads,
                     .head_dim = dim},
                    pool_, kernels());
    for (int64_t view = 0; view < views; ++view) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t head = 0; head < heads; ++head) {
          std::vector<Key> keys;
          for (int64_t key = 0; key < rows; ++key) {
            const int64_t offset = ((view * rows + key) * heads + head) * dim;
            keys.push_back({k.data() + offset, v.data() + offset});
          }
          const int64_t query = ((view * rows + row) * heads + head) * dim;
          ASSERT_NO_FATAL_FAILURE(
              ExpectRow(q.data() + query, keys, dim, GetParam(), out.data() + query));
        }
      }
    }
  }
}

// Scores that grow from block to block make the running maximum move; huge ones must not overflow.
TEST_P(AttentionTest, MovingMaximum) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kDim = 4;
  Guarded<float> q(kRows * kDim, 1.0f);
  Guarded<float> k(kRows * kDim);
  Guarded<float> v(kRows * kDim);
  Guarded<float> out(kRows * kDim);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t d = 0; d < kDim; ++d) {
      k[row * kDim + d] = static_cast<float>(row);  // score 2 * row, up to 598
      v[row * kDim + d] = static_cast<float>(row + d);
    }
  }
  VisionAttention({.q = q.data(),
                   .k = k.data(),
                   .v = v.data(),
                   .out = out.data(),
                   .views = 1,
                   .rows = kRows,
                   .heads = 1,
                   .head_dim = kDim},
                  pool_, kernels());
  std::vector<Key> keys;
  for (int64_t row = 0; row < kRows; ++row) {
    keys.push_back({k.data() + row * kDim, v.data() + row * kDim});
  }
  ExpectRow(q.data(), keys, kDim, GetParam(), out.data());
  if (GetParam().rounds) return;
  // Weights 1, e^-2, e^-4, ... on the keys from the last one down.
  const double below = 1 / (std::exp(2.0) - 1);  // mean distance from the last key
  for (int64_t d = 0; d < kDim; ++d) {
    EXPECT_NEAR(out[d], static_cast<double>(kRows - 1 + d) - below, 1e-4);
  }
}

/// Nor on how many tiles share a task: one, with four threads.
TEST_P(AttentionTest, DoesNotDependOnTheThreads) {
  const int64_t size = 200 * 12 * 16;
  std::vector<float> results[2];
  for (const int threads : {1, 4}) {
    Random random(3);
    Guarded<float> q(size);
    Guarded<float> k(size);
    Guarded<float> v(size);
    Guarded<float> out(size);
    random.Fill(q);
    random.Fill(k);
    random.Fill(v);
    ThreadPool pool(threads);
    VisionAttention({.q = q.data(),
                     .k = k.data(),
                     .v = v.data(),
                     .out = out.data(),
                     .views = 1,
                     .rows = 200,
                     .heads = 12,
                     .head_dim = 16},
                    pool, kernels());
    results[threads == 1 ? 0 : 1].assign(out.data(), out.data() + size);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_P(AttentionTest, ARowOfDecodingDependsNeitherOnTheThreadsNorOnTheBatch) {
  constexpr int64_t kHeads = 8;
  constexpr int64_t kKvHeads = 2;
  constexpr int64_t kDim = 32;
  constexpr int64_t kBlock = 16;
  constexpr int64_t kRow = kHeads * kDim;
  const int64_t positions[] = {40, 5000, 9000, 300};
  Random random(5);
  std::vector<std::vector<int32_t>> tables(4);
  int32_t blocks = 0;
  for (size_t s = 0; s < 4; ++s) {
    for (int64_t key = 0; key <= positions[s]; key += kBlock) tables[s].push_back(blocks++);
  }
  Guarded<float> k(blocks * kBlock * kKvHeads * kDim);
  Guarded<float> v(blocks * kBlock * kKvHeads * kDim);
  Guarded<float> q(4 * kRow);
  random.Fill(k);
  random.Fill(v);
  random.Fill(q, 5.0f);
  const auto run = [&](const std::vector<AttentionSequence>& sequences, const float* queries,
                       int threads) {
    ThreadPool pool(threads);
    std::vector<float> out(sequences.size() * kRow);
    PagedAttention({.q = queries,
                    .out = out.data(),
                    .heads = kHeads,
                    .kv_heads = kKvHeads,
                    .head_dim = kDim,
                    .k_cache = k.data(),
                    .v_cache = v.data(),
                    .block_size = kBlock,
                    .sequences = sequences.data(),
                    .sequence_count = static_cast<int64_t>(sequences.size())},
                   pool, kernels());
    return out;
  };
  std::vector<AttentionSequence> all;
  std::vector<float> alone;
  for (size_t s = 0; s < 4; ++s) {
    all.push_back({.first_row = static_cast<int64_t>(s),
                   .row_count = 1,
                   .position = positions[s],
                   .block_table = tables[s].data()});
    AttentionSequence own = all.back();
    own.first_row = 0;
    const std::vector<float> out = run({own}, q.data() + s * kRow, 1);
    alone.insert(alone.end(), out.begin(), out.end());
  }
  for (const int threads : {1, 2, 5}) EXPECT_EQ(run(all, q.data(), threads), alone) << threads;
}

INSTANTIATE_TEST_SUITE_P(, PagedAttentionTest,
                         testing::Combine(testing::ValuesIn(AllKernels()),
                                          testing::Values(KvFormat::kFloat32, KvFormat::kInt8)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  ToString(std::get<1>(info.param));
                         });
INSTANTIATE_TEST_SUITE_P(, AttentionTest, testing::ValuesIn(AllKernels()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace xcomposer::cpu
