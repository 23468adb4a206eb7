#include "kernels/cuda/linear_few_rows.h"

#include "kernels_cuda/weights.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class LinearFewRowsOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(LinearFewRowsOf, StoredTypes);

struct Case {
  int64_t rows, outputs, columns;
  FewRowsShape shape;
};

constexpr Case kCases[] = {
    // The launcher's choice: one to four tiles of rows, ragged; weights of less than a tile and not
    // a multiple; K of less than one warp's step, of a few warps' shares, of more stages than the
    // ring holds; few, several and many units of weights for each multiprocessor.
    {1, 3, 32, {}},
    {8, 16, 96, {}},
    {9, 37, 320, {}},
    {19, 24, 1312, {}},
    {32, 17, 64, {}},
    {5, 250, 160, {}},
    {2, 390, 96, {}},
    {3, 1200, 32, {}},
    // Warps side by side, along K and both, not a power of two; the shortest ring and the longest.
    {16, 70, 416, {.warps_n = 2, .warps_k = 2, .stages = 3}},
    {32, 100, 224, {.warps_n = 3, .warps_k = 1, .stages = 2}},
    {3, 40, 1056, {.warps_n = 1, .warps_k = 8, .stages = 2}},
    {25, 130, 736, {.warps_n = 2, .warps_k = 3, .stages = 2}},
    {7, 33, 2080, {.warps_n = 1, .warps_k = 1, .stages = 8}},
    {12, 400, 64, {.warps_n = 11, .warps_k = 1, .stages = 2}},
};

template <typename T>
std::vector<T> RowOf(const std::vector<T>& x, int64_t row, int64_t columns) {
  return {x.begin() + row * columns, x.begin() + (row + 1) * columns};
}

template <typename T>
struct Problem {
  Case size;
  Random random{11};
  Weights<T> w{size.outputs, size.columns, random};
  Weights<T> w3{size.outputs, size.columns, random};
  std::vector<T> x = random.Normal<T>(static_cast<size_t>(size.rows * size.columns), 1.0f);

  template <typename Combine>
  void ForResults(const Combine& combine) const {
    for (int64_t row = 0; row < size.rows; ++row) {
      const Doubles wide = ToDoubles(RowOf(x, row, size.columns));
      const std::vector<float> narrow(wide.begin(), wide.end());
      for (int64_t n = 0; n < size.outputs; ++n) combine(row, n, wide, narrow);
    }
  }
  double SumOfMagnitudes(int64_t n, const Doubles& row) const {
    double sum = 0;
    for (int64_t c = 0; c < size.columns; ++c) {
      const T weight = w.values[static_cast<size_t>(n * w.stride + c)];
      sum += std::abs(static_cast<double>(Widen(weight)) * row[static_cast<size_t>(c)]);
    }
    return sum;
  }
  std::string Name() const {
    return std::to_string(size.rows) + " x " + std::to_string(size.columns) + " -> " +
           std::to_string(size.outputs);
  }
};

template <typename T, typename Out>
void CheckProduct(const Case& size, cudaError_t (*function)(const FewRowsParams&, const Context&),
                  bool add) {
  const Problem<T> problem{size};
  const auto before = Random(12).Normal<Out>(static_cast<size_t>(size.rows * size.outputs), 1);
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<T> x(problem.x);
    const auto w = Constant(problem.w.values);
    const Array<Out> y(before);
    EXPECT_EQ(Finish(function({.x = x.data(),
                               .weight = Matrix(w, size.outputs, size.columns, problem.w.stride),
                               .rows = size.rows,
                               .y = y.data(),
                               .format = FormatOf<T>(),
                               .shape = size.shape},
                              context)),
              "");
    return y.Read();
  });
  Doubles exact;
  Doubles naive;
  double magnitudes = 0;
  problem.ForResults([&](int64_t, int64_t n, const Doubles& wide, const auto& narrow) {
    const float y = add ? Widen(before[exact.size()]) : 0.0f;
    exact.push_back(double{y} + problem.w.Dot(n, wide));
    magnitudes = std::max(magnitudes, problem.SumOfMagnitudes(n, wide));
    naive.push_back(Round<Out>(y + problem.w.Dot(n, narrow)));
  });
  const double sums = static_cast<double>((size.columns + 15) / 16) * 0x1p-23 * magnitudes;
  ExpectWithinBudget(actual, exact, naive, problem.Name(), sums);
}

TYPED_TEST(LinearFewRowsOf, StoredResultsAgreeWithDouble) {
  for (const Case& size : kCases) CheckProduct<TypeParam, TypeParam>(size, LinearFewRows, false);
}
TYPED_TEST(LinearFewRowsOf, FloatResultsAgreeWithDouble) {
  for (const Case& size : kCases) CheckProduct<TypeParam, float>(size, LinearFewRowsToFloat, false);
}
TYPED_TEST(LinearFewRowsOf, ResidualIsAdded) {
  for (const Case& size : kCases) CheckProduct<TypeParam, float>(size, LinearFewRowsAdd, true);
}
TYPED_TEST(LinearFewRowsOf, GateAndUpAgreeWithDouble) {
  using T = TypeParam;
  for (const Case& size : kCases) {
    const Problem<T> problem{size};
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<T> x(problem.x);
      const auto w1 = Constant(problem.w.values);
      const auto w3 = Constant(problem.w3.values);
      const Array<T> out(static_cast<size_t>(size.rows * size.outputs));
      EXPECT_EQ(
          Finish(GateUpFewRows({.x = x.data(),
                                .w1 = Matrix(w1, size.outputs, size.columns, problem.w.stride),
                                .w3 = Matrix(w3, size.outputs, size.columns, problem.w3.stride),
                                .rows = size.rows,
                                .out = out.data(),
                                .format = FormatOf<T>(),
                                .shape = size.shape},
                               context)),
          "");
      return out.Read();
    });
    Doubles exact;
    Doubles naive;
    problem.ForResults([&](int64_t, int64_t n, const Doubles& wide, const auto& narrow) {
      const double gate = problem.w.Dot(n, wide);
      exact.push_back(gate / (1 + std::exp(-gate)) * problem.w3.Dot(n, wide));
      const double naive_gate = Round<T>(problem.w.Dot(n, narrow));
      const double silu = Round<T>(naive_gate / (1 + std::exp(-naive_gate)));
      naive.push_back(Round<T>(silu * Round<T>(problem.w3.Dot(n, narrow))));
    });
    ExpectWithinBudget(actual, exact, naive, problem.Name());
  }
}

/// Sequences that are decoded together do not change each other's bits.
TYPED_TEST(LinearFewRowsOf, BitsOfARowDoNotDependOnOtherRows) {
  using T = TypeParam;
  const Problem<T> problem{{32, 50, 352, {}}};
  const auto run = [&](int64_t rows) {
    const Array<T> x(problem.x);
    const auto w = Constant(problem.w.values);
    const Array<float> y(static_cast<size_t>(rows * problem.size.outputs));
    EXPECT_EQ(Finish(LinearFewRowsToFloat({.x = x.data(),
                                           .weight = Matrix(w, problem.size.outputs,
                                                            problem.size.columns, problem.w.stride),
                                           .rows = rows,
                                           .y = y.data(),
                                           .format = FormatOf<T>()},
                                          Ways()[0])),
              "");
    return y.Read();
  };
  const std::vector<float> all = run(32);
  for (const int64_t rows : {1, 8, 11}) {
    EXPECT_TRUE(SameBits(run(rows), {all.begin(), all.begin() + rows * problem.size.outputs}))
        << rows << " rows";
  }
}

struct QkvCase {
  HeadShape heads;
  int64_t rows, columns;
  FewRowsShape shape;
};

/// Angles and slots of the rows; the last row stores no key and value.
struct Places {
  std::vector<float> cos, sin;
  std::vector<int64_t> slots;

  Places(int64_t rows, int64_t half, Random& random) {
    for (int64_t i = 0; i < rows * half; ++i) {
      const auto angle = static_cast<float>(random.Below(1000));
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    for (int64_t i = 0; i < rows + 2; ++i) slots.push_back(i);
    random.Shuffle(slots);
    slots.resize(static_cast<size_t>(rows));
    slots.back() = -1;
  }
};

/// Queries, keys and values one after the other, rotated, of a product (rows, N) whose numbers
/// `stored` rounds; ones where nothing is written.
template <typename Number, typename Stored>
Doubles PlacedQkv(const QkvCase& c, const Places& places, const std::vector<Number>& product,
                  const Stored& stored) {
  const auto [heads, kv_heads, dim] = c.heads;
  const int64_t half = dim / 2;
  const int64_t group = heads / kv_heads;
  const int64_t packed = kv_heads * (group + 2);
  const int64_t q_count = c.rows * heads * dim;
  const int64_t cache_count = (c.rows + 2) * kv_heads * dim;
  Doubles out(static_cast<size_t>(q_count + 2 * cache_count), 1.0);
  for (int64_t row = 0; row < c.rows; ++row) {
    const int64_t slot = places.slots[static_cast<size_t>(row)];
    for (int64_t head = 0; head < packed; ++head) {
      const int64_t kv = head / (group + 2);
      const int64_t place = head % (group + 2);
      if (place >= group && slot < 0) continue;
      int64_t to = (row * heads + kv * group + place) * dim;
      if (place >= group) {
        to = q_count + (place - group) * cache_count + (slot * kv_heads + kv) * dim;
      }
      for (int64_t j = 0; j < half; ++j) {
        const auto from = static_cast<size_t>((row * packed + head) * dim + j);
        const double low = stored(product[from]);
        const double high = stored(product[from + static_cast<size_t>(half)]);
        const auto angle = static_cast<size_t>(row * half + j);
        const double cos = place > group ? 1.0 : double{places.cos[angle]};
        const double sin = place > group ? 0.0 : double{places.sin[angle]};
        out[static_cast<size_t>(to + j)] = stored(low * cos - high * sin);
        out[static_cast<size_t>(to + j + half)] = stored(high * cos + low * sin);
      }
    }
  }
  return out;
}

template <typename T>
void CheckQkv(const QkvCase& c) {
  const int64_t outputs = (c.heads.heads + 2 * c.heads.kv_heads) * c.heads.head_dim;
  const Problem<T> problem{{c.rows, outputs, c.columns, c.shape}};
  Random random(13);
  const Places places(c.rows, c.heads.head_dim / 2, random);
  const auto q_count = static_cast<size_t>(c.rows * c.heads.heads * c.heads.head_dim);
  const auto cache_count = static_cast<size_t>((c.rows + 2) * c.heads.kv_heads * c.heads.head_dim);
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<T> x(problem.x);
    const auto w = Constant(problem.w.values);
    const Array<float> cos(places.cos);
    const Array<float> sin(places.sin);
    const Array<int64_t> slots(places.slots);
    const Array<T> q(q_count);
    const Array<T> k(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    const Array<T> v(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    EXPECT_EQ(Finish(QkvFewRows({.x = x.data(),
                                 .wqkv = Matrix(w, outputs, c.columns, problem.w.stride),
                                 .heads = c.heads,
                                 .rows = c.rows,
                                 .cos = cos.data(),
                                 .sin = sin.data(),
                                 .slots = slots.data(),
                                 .q = q.data(),
                                 .k_cache = k.data(),
                                 .v_cache = v.data(),
                                 .format = FormatOf<T>(),
                                 .shape = c.shape},
                                context)),
              "");
    std::vector<T> all = q.Read();
    for (const Array<T>* cache : {&k, &v}) {
      const std::vector<T> part = cache->Read();
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  });
  Doubles wide_product;
  std::vector<float> narrow_product;
  problem.ForResults([&](int64_t, int64_t n, const Doubles& wide, const auto& narrow) {
    wide_product.push_back(problem.w.Dot(n, wide));
    narrow_product.push_back(problem.w.Dot(n, narrow));
  });
  const auto exact =
      PlacedQkv(c, places, wide_product, [](auto y) { return static_cast<double>(y); });
  const auto naive =
      PlacedQkv(c, places, narrow_product, [](auto y) { return Round<T>(static_cast<double>(y)); });
  ExpectWithinBudget(actual, exact, naive, problem.Name());
}

TYPED_TEST(LinearFewRowsOf, QueriesAndKeysAreRotatedToTheirPlaces) {
  CheckQkv<TypeParam>({{4, 2, 32}, 3, 96, {}});
  CheckQkv<TypeParam>({{2, 1, 128}, 17, 160, {.warps_n = 2, .warps_k = 1, .stages = 3}});
  CheckQkv<TypeParam>({{3, 3, 96}, 8, 320, {.warps_n = 3, .warps_k = 2, .stages = 2}});
  CheckQkv<TypeParam>({{6, 2, 64}, 32, 32, {.warps_n = 5, .warps_k = 1, .stages = 2}});
  // Units of one tile: the launcher's choice where a multiprocessor gets 3 times 16 rows rather
  // than 2 times 32, then whole and ragged blocks, a head of an odd number of units, most warps.
  CheckQkv<TypeParam>({{2, 1, 32}, 2, 96, {}});
  CheckQkv<TypeParam>({{2, 1, 128}, 9, 224, {.left_tiles = 1, .warps_n = 3, .warps_k = 1}});
  CheckQkv<TypeParam>({{3, 3, 96}, 32, 160, {.left_tiles = 1, .warps_n = 2, .warps_k = 3}});
  CheckQkv<TypeParam>(
      {{4, 2, 64}, 5, 1056, {.left_tiles = 1, .warps_n = 4, .warps_k = 4, .stages = 2}});
}

/// However many units a multiprocessor gets, and whatever shared memory it has.
TYPED_TEST(LinearFewRowsOf, EveryDeviceHasAShape) {
  using T = TypeParam;
  constexpr int64_t kMostUnits = 18;
  Context context = Ways()[0];
  context.multiprocessors = 1;
  const int own_bytes = context.block_shared_bytes;
  const auto w = Constant(std::vector<T>(kMostUnits * 16 * 32));
  const Array<T> x(std::vector<T>(kFewRows * 32));
  const Array<T> y(static_cast<size_t>(kFewRows * kMostUnits * 16));
  for (int64_t units = 1; units <= kMostUnits; ++units) {
    for (const int bytes : {99 * 1024, 163 * 1024, 227 * 1024}) {
      context.block_shared_bytes = std::min(bytes, own_bytes);
      for (const int64_t rows : {2, 32}) {
        const WeightMatrix weight = Matrix(w, units * 16, 32, 32);
        const cudaError_t status =
            GateUpFewRows({x.data(), weight, weight, rows, y.data(), FormatOf<T>()}, context);
        EXPECT_EQ(Finish(status), "") << units << " units, " << bytes << " bytes, " << rows;
      }
    }
  }
}

TYPED_TEST(LinearFewRowsOf, RefusesWhatItCannotMultiply) {
  using T = TypeParam;
  const Array<T> w(4096);
  const Context context = Ways()[0];
  const auto run = [&](const WeightMatrix& weight, int64_t rows, int64_t offset) {
    return LinearFewRows({w.data() + offset, weight, rows, w.data(), FormatOf<T>()}, context);
  };
  EXPECT_EQ(run(Matrix(w, 1, 40, 40), 1, 0), cudaErrorInvalidValue);
  EXPECT_EQ(run(Matrix(w, 1, 32, 24), 1, 0), cudaErrorInvalidValue);
  EXPECT_EQ(run(Matrix(w, 1, 32, 36), 1, 0), cudaErrorInvalidValue);
  EXPECT_EQ(run(Matrix(w, 1, 32, 32), 0, 0), cudaErrorInvalidValue);
  EXPECT_EQ(run(Matrix(w, 1, 32, 32), 33, 0), cudaErrorInvalidValue);
  EXPECT_EQ(run(Matrix(w, 1, 32, 32), 1, 1), cudaErrorMisalignedAddress);
  WeightMatrix other = Matrix(w, 1, 32, 32);
  other.storage =
      std::is_same_v<T, Half> ? WeightMatrix::Storage::kBfloat16 : WeightMatrix::Storage::kFloat16;
  EXPECT_EQ(run(other, 1, 0), cudaErrorNotSupported);
  EXPECT_EQ(GateUpFewRows(
                {w.data(), Matrix(w, 1, 32, 32), Matrix(w, 2, 32, 32), 1, w.data(), FormatOf<T>()},
                context),
            cudaErrorInvalidValue);
  const FewRowsShape impossible[] = {{.warps_n = 17, .warps_k = 1},
                                     {.warps_n = 6, .warps_k = 3},
                                     {.left_tiles = 1},
                                     {.left_tiles = 3},
                                     {.left_tiles = -1},
                                     {.warps_n = -1, .warps_k = 1},
                                     {.warps_n = 1, .warps_k = -1},
                                     {.stages = 1},
                                     {.stages = 9},
                                     {.stages = -1},
                                     // 272 KiB of shared memory
                                     {.warps_n = 4, .warps_k = 2, .stages = 8}};
  for (const FewRowsShape& shape : impossible) {
    EXPECT_EQ(
        LinearFewRows({w.data(), Matrix(w, 1, 32, 32), 1, w.data(), FormatOf<T>(), shape}, context),
        cudaErrorInvalidValue);
  }
  const auto rotate = [&](const HeadShape& heads, int64_t outputs, const FewRowsShape& shape = {}) {
    return QkvFewRows({.x = w.data(),
                       .wqkv = Matrix(w, outputs, 32, 32),
                       .heads = heads,
                       .rows = 1,
                       .format = FormatOf<T>(),
                       .shape = shape},
                      context);
  };
  EXPECT_EQ(rotate({1, 1, 48}, 144), cudaErrorInvalidValue);  // halves of no whole tiles
  EXPECT_EQ(rotate({1, 1, 32}, 64), cudaErrorInvalidValue);
  EXPECT_EQ(rotate({3, 2, 32}, 160), cudaErrorInvalidValue);
  EXPECT_EQ(rotate({1, 0, 32}, 32), cudaErrorInvalidValue);
  EXPECT_EQ(rotate({1, 1, 32}, 96, {.left_tiles = 3}), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace xcomposer::cuda
