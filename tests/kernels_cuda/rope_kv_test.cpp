#include "kernels/cuda/rope_kv.h"

#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class Rope : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(Rope, StoredTypes);
class RopeTableTest : public KernelTest {};

TEST_F(RopeTableTest, AnglesAreFloatProducts) {
  for (const int64_t half : {4, 32, 100}) {
    const std::vector<float> frequencies = [half] {
      std::vector<float> f;
      for (int64_t i = 0; i < 2 * half; ++i) f.push_back(1.0f / static_cast<float>(1 + i * i));
      return f;
    }();
    const std::vector<int32_t> tables = {1, 0, 1};
    const std::vector<int32_t> positions = {0, 4321, 16383};
    const auto actual = InEveryWay([&](const Context& context) {
      const auto inverse = Constant(frequencies);
      const Array<int32_t> which(tables);
      const Array<int32_t> at(positions);
      const Array<float> both(static_cast<size_t>(6 * half));
      EXPECT_EQ(Finish(RopeTable({inverse.data(), which.data(), at.data(), both.data(),
                                  both.data() + 3 * half, 3, half},
                                 context)),
                "");
      return both.Read();
    });
    for (int64_t row = 0; row < 3; ++row) {
      for (int64_t j = 0; j < half; ++j) {
        const auto r = static_cast<size_t>(row);
        const float angle = static_cast<float>(positions[r]) *
                            frequencies[static_cast<size_t>(tables[r] * half + j)];
        // cosf and sinf are within two units in the last place of 1.
        const auto i = static_cast<size_t>(row * half + j);
        ASSERT_NEAR(actual[i], std::cos(double{angle}), 0x1p-22);
        ASSERT_NEAR(actual[i + static_cast<size_t>(3 * half)], std::sin(double{angle}), 0x1p-22);
      }
    }
  }
}

struct Case {
  HeadShape shape;
  int64_t rows;
};

/// Of packed row and head, element d after rotation.
double Rotated(const Doubles& qkv, const Doubles& cos, const Doubles& sin, size_t row, size_t head,
               size_t heads, size_t dim, size_t d, bool rotate) {
  const size_t half = dim / 2;
  const double* x = qkv.data() + (row * heads + head) * dim;
  if (!rotate) return x[d];
  const size_t j = d % half;
  const double c = cos[row * half + j];
  const double s = sin[row * half + j];
  return d < half ? x[j] * c - x[j + half] * s : x[j + half] * c + x[j] * s;
}

template <typename T>
void CheckRopeKv(const Case& test) {
  const auto [heads, kv_heads, dim] = test.shape;
  const int64_t group = heads / kv_heads;
  const int64_t packed = kv_heads * (group + 2);
  const int64_t slot_count = test.rows + 3;
  Random random(6);
  const auto qkv = random.Normal<T>(static_cast<size_t>(test.rows * packed * dim), 1);
  std::vector<float> cos;
  std::vector<float> sin;
  for (int64_t i = 0; i < test.rows * dim / 2; ++i) {
    const auto angle = static_cast<float>(random.Below(1000));
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  std::vector<int64_t> slots;
  for (int64_t i = 0; i < slot_count; ++i) slots.push_back(i);
  random.Shuffle(slots);
  slots.resize(static_cast<size_t>(test.rows));
  slots.back() = -1;  // a row that is not in use stores nothing
  const size_t q_count = static_cast<size_t>(test.rows * heads * dim);
  const size_t cache_count = static_cast<size_t>(slot_count * kv_heads * dim);
  // Queries, keys and values one after the other; caches begin with ones, which stay in free slots.
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<T> in(qkv);
    const Array<float> c(cos);
    const Array<float> s(sin);
    const Array<int64_t> at(slots);
    const Array<T> q(q_count);
    const Array<T> k(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    const Array<T> v(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    EXPECT_EQ(Finish(RopeKv({.qkv = in.data(),
                             .shape = test.shape,
                             .cos = c.data(),
                             .sin = s.data(),
                             .slots = at.data(),
                             .q = q.data(),
                             .k_cache = k.data(),
                             .v_cache = v.data(),
                             .rows = test.rows,
                             .format = FormatOf<T>()},
                            context)),
              "");
    std::vector<T> all = q.Read();
    for (const Array<T>* cache : {&k, &v}) {
      const std::vector<T> part = cache->Read();
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  });
  Doubles exact(q_count + 2 * cache_count, 1.0);
  const Doubles x = ToDoubles(qkv);
  const Doubles c = ToDoubles(cos);
  const Doubles s = ToDoubles(sin);
  for (int64_t row = 0; row < test.rows; ++row) {
    for (int64_t head = 0; head < packed; ++head) {
      const int64_t kv = head / (group + 2);
      const int64_t place = head % (group + 2);
      for (int64_t d = 0; d < dim; ++d) {
        const double value = Rotated(x, c, s, static_cast<size_t>(row), static_cast<size_t>(head),
                                     static_cast<size_t>(packed), static_cast<size_t>(dim),
                                     static_cast<size_t>(d), place <= group);
        if (place >= group && slots[static_cast<size_t>(row)] < 0) continue;
        size_t at = static_cast<size_t>(((row * heads) + kv * group + place) * dim + d);
        const int64_t cached = (slots[static_cast<size_t>(row)] * kv_heads + kv) * dim + d;
        if (place == group) at = q_count + static_cast<size_t>(cached);
        if (place > group) at = q_count + cache_count + static_cast<size_t>(cached);
        exact[at] = value;
      }
    }
  }
  Doubles naive;
  for (const double value : exact) naive.push_back(Round<T>(value));
  ExpectWithinBudget(actual, exact, naive, std::to_string(heads) + " heads");
}

TYPED_TEST(Rope, KeysAndValuesGoToTheirSlots) {
  CheckRopeKv<TypeParam>({{4, 1, 64}, 3});
  CheckRopeKv<TypeParam>({{6, 3, 16}, 2});
  CheckRopeKv<TypeParam>({{32, 8, 128}, 2});
  CheckRopeKv<TypeParam>({{5, 5, 48}, 1});
}

TYPED_TEST(Rope, RefusesWhatItCannotLoad) {
  using T = TypeParam;
  const Array<T> x(256);
  const Array<float> table(64);
  RopeKvParams params{.qkv = x.data(),
                      .shape = {2, 1, 24},
                      .cos = table.data(),
                      .sin = table.data(),
                      .q = x.data(),
                      .k_cache = x.data(),
                      .v_cache = x.data(),
                      .rows = 1,
                      .format = FormatOf<T>()};
  EXPECT_EQ(RopeKv(params, Ways()[0]), cudaErrorInvalidValue);
  params.shape = {2, 1, 16};
  params.rows = 0;
  EXPECT_EQ(Finish(RopeKv(params, Ways()[0])), "");
  params.rows = -1;
  EXPECT_EQ(RopeKv(params, Ways()[0]), cudaErrorInvalidValue);
  params.rows = 1;
  params.shape = {3, 2, 16};
  EXPECT_EQ(RopeKv(params, Ways()[0]), cudaErrorInvalidValue);
  params.shape = {2, 1, 16};
  params.k_cache = x.data() + 1;
  EXPECT_EQ(RopeKv(params, Ways()[0]), cudaErrorMisalignedAddress);
}

}  // namespace
}  // namespace xcomposer::cuda
