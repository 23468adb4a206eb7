#include "kernels/cpu/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/guarded.h"
#include "kernels/kept_heads.h"

namespace xcomposer::cpu {
namespace {

TEST(RopeTable, FollowsTheRecipe) {
  const int32_t tables[] = {1, 1, 0, 2};
  const int32_t positions[] = {0, 12345, 32767, 7};
  for (const int64_t half : {int64_t{1}, int64_t{3}, int64_t{32}, int64_t{64}}) {
    Random random(half);
    Guarded<float> inverse(3 * half);
    random.Fill(inverse);
    Guarded<float> cos(4 * half);
    Guarded<float> sin(4 * half);
    RopeTable({.inverse_frequencies = inverse.data(),
               .tables = tables,
               .positions = positions,
               .cos = cos.data(),
               .sin = sin.data(),
               .rows = 4,
               .half = half});
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t j = 0; j < half; ++j) {
        const float angle = static_cast<float>(positions[row]) * inverse[tables[row] * half + j];
        ASSERT_EQ(cos[row * half + j], static_cast<float>(std::cos(double{angle})));
        ASSERT_EQ(sin[row * half + j], static_cast<float>(std::sin(double{angle})));
      }
    }
  }
}

class RopeKvTest : public testing::TestWithParam<Isa> {};

struct Heads {
  int64_t rows, heads, kv_heads, dim;
};

TEST_P(RopeKvTest, RotatesAndStores) {
  Random random(1);
  ThreadPool pool(3);
  const Heads cases[] = {
      {1, 1, 1, 2}, {3, 4, 2, 6}, {17, 8, 2, 64}, {19, 6, 3, 34}, {65, 4, 1, 128}};
  for (const auto& [rows, heads, kv_heads, dim] : cases) {
    const int64_t group = heads / kv_heads;
    const int64_t width = (heads + 2 * kv_heads) * dim;
    const int64_t stride = width + 3;
    const int64_t half = dim / 2;
    Guarded<float> qkv(rows * stride);
    Guarded<float> cos(rows * half);
    Guarded<float> sin(rows * half);
    Guarded<int64_t> slots(rows);
    Guarded<float> q(rows * heads * dim);
    Guarded<float> k_cache((rows + 5) * kv_heads * dim, -9.0f);
    Guarded<float> v_cache((rows + 5) * kv_heads * dim, -9.0f);
    random.Fill(qkv);
    random.Fill(cos);
    random.Fill(sin);
    for (int64_t row = 0; row < rows; ++row)
      slots[row] = rows + 4 - row;  // 0 .. 4 stay as they are
    RopeKv({.qkv = qkv.data(),
            .qkv_stride = stride,
            .rows = rows,
            .heads = heads,
            .kv_heads = kv_heads,
            .head_dim = dim,
            .cos = cos.data(),
            .sin = sin.data(),
            .slots = slots.data(),
            .q = q.data(),
            .k_cache = k_cache.data(),
            .v_cache = v_cache.data()},
           {.pool = pool, .isa = GetParam()});
    for (int64_t i = 0; i < 5 * kv_heads * dim; ++i) ASSERT_EQ(k_cache[i], -9.0f);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t h = 0; h < heads + kv_heads; ++h) {
        const bool key = h >= heads;
        const int64_t g = key ? h - heads : h / group;
        const int64_t place = key ? group : h % group;
        const float* in = qkv.data() + row * stride + (g * (group + 2) + place) * dim;
        const float* out = key ? k_cache.data() + (slots[row] * kv_heads + g) * dim
                               : q.data() + (row * heads + h) * dim;
        for (int64_t j = 0; j < half; ++j) {
          const float c = cos[row * half + j];
          const float s = sin[row * half + j];
          // Bit for bit: every product and sum is rounded on its own.
          const float low = in[j] * c;
          const float low_sine = in[j + half] * s;
          const float high = in[j + half] * c;
          const float high_sine = in[j] * s;
          ASSERT_EQ(out[j], low - low_sine);
          ASSERT_EQ(out[j + half], high + high_sine);
        }
      }
      for (int64_t g = 0; g < kv_heads; ++g) {
        for (int64_t d = 0; d < dim; ++d) {
          ASSERT_EQ(v_cache[(slots[row] * kv_heads + g) * dim + d],
                    qkv[row * stride + (g * (group + 2) + group + 1) * dim + d]);
        }
      }
    }
  }
}

// The int8 cache holds what the other one would, rounded.
TEST_P(RopeKvTest, RoundsWhatItStores) {
  Random random(2);
  ThreadPool pool(3);
  const Heads cases[] = {{1, 1, 1, 2}, {17, 8, 2, 64}, {19, 6, 3, 34}, {300, 4, 1, 128}};
  for (const auto& [rows, heads, kv_heads, dim] : cases) {
    const int64_t width = (heads + 2 * kv_heads) * dim;
    Guarded<float> qkv(rows * width);
    Guarded<float> cos(rows * dim / 2);
    Guarded<float> sin(rows * dim / 2);
    Guarded<int64_t> slots(rows);
    random.Fill(qkv, 3.0f);
    random.Fill(cos);
    random.Fill(sin);
    for (int64_t row = 0; row < rows; ++row) slots[row] = rows + 1 - row;  // 0 and 1 stay
    struct Stored {
      Guarded<float> q;
      KeptHeads k, v;
    };
    const auto run = [&](KvFormat format, Stored& stored) {
      RopeKv({.qkv = qkv.data(),
              .qkv_stride = width,
              .rows = rows,
              .heads = heads,
              .kv_heads = kv_heads,
              .head_dim = dim,
              .cos = cos.data(),
              .sin = sin.data(),
              .slots = slots.data(),
              .q = stored.q.data(),
              .k_cache = stored.k.data(),
              .v_cache = stored.v.data(),
              .format = format},
             {.pool = pool, .isa = GetParam()});
    };
    const int64_t slot_heads = (rows + 2) * kv_heads;
    const auto make = [&](KvFormat format) {
      return Stored{Guarded<float>(rows * heads * dim), KeptHeads(slot_heads, dim, format, 7),
                    KeptHeads(slot_heads, dim, format, 7)};
    };
    Stored exact = make(KvFormat::kFloat32);
    Stored rounded = make(KvFormat::kInt8);
    run(KvFormat::kFloat32, exact);
    run(KvFormat::kInt8, rounded);
    for (int64_t i = 0; i < exact.q.size(); ++i) ASSERT_EQ(rounded.q[i], exact.q[i]);
    for (auto [of, was] : {std::pair{&rounded.k, &exact.k}, std::pair{&rounded.v, &exact.v}}) {
      const auto bytes = static_cast<size_t>(KvHeadBytes(KvFormat::kInt8, dim));
      KeptHeads expected(1, dim, KvFormat::kInt8, 7);  // what stays
      for (int64_t head = 0; head < slot_heads; ++head) {
        if (head >= 2 * kv_heads) expected.Keep(0, static_cast<const float*>(was->head(head)));
        ASSERT_EQ(std::memcmp(of->head(head), expected.head(0), bytes), 0) << head;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, RopeKvTest, testing::ValuesIn(RunnableIsas()),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace xcomposer::cpu
