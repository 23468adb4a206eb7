#include "kernels/cuda/decode_linear.h"

#include "kernels_cuda/weights.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class DecodeLinear : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(DecodeLinear, StoredTypes);

constexpr float kEps = 1e-5f;

struct Input {
  std::vector<float> hidden;
  Doubles weight;

  /// RmsNorm(hidden); rounded to T where Number is float, as a kernel on its own would store it.
  template <typename T, typename Number>
  std::vector<Number> Normed() const {
    Number squares = 0;
    for (const float h : hidden) squares += static_cast<Number>(h) * static_cast<Number>(h);
    const Number factor =
        1 / std::sqrt(squares / static_cast<Number>(hidden.size()) + Number{kEps});
    std::vector<Number> out;
    for (size_t c = 0; c < hidden.size(); ++c) {
      const Number x = static_cast<Number>(hidden[c]) * factor * static_cast<Number>(weight[c]);
      out.push_back(std::is_same_v<Number, double> ? x : static_cast<Number>(Round<T>(x)));
    }
    return out;
  }
};

// Parts of one tile of 512 columns, and a bit more than two; four and a bit, which at two pairs of
// rows for a warp are more than there are stages. In bulk a tile is of 1024.
constexpr int64_t kColumns[] = {8, 264, 1032, 2056};

/// Runs in every way without copies in bulk, with room for 2, 5 and 6 stages of weights: the bits
/// are the same.
template <typename Run>
auto WithEveryRoom(const Run& run) {
  decltype(InEveryWay(run)) first;
  for (const int room : {100, 190, 228}) {
    auto result = InEveryWay([&](Context context) {
      context.warpgroup_products = false;
      context.shared_bytes = std::min(room * 1024, context.shared_bytes);
      return run(context);
    });
    if (first.empty()) first = result;
    EXPECT_TRUE(SameBits(first, result)) << room << " KiB";
  }
  return first;
}

/// The same and with copies in bulk, where the device has them.
template <typename Run>
auto WithEveryCopy(const Run& run) {
  const auto copied = WithEveryRoom(run);
  EXPECT_TRUE(SameBits(copied, InEveryWay(run))) << "in bulk";
  return copied;
}

TYPED_TEST(DecodeLinear, LogitsAgreeWithDouble) {
  using T = TypeParam;
  for (const int64_t columns : kColumns) {
    for (const int64_t rows : {2, 38, 114}) {
      Random random(7);
      const Weights<T> w(rows, columns, random);
      const auto norm = random.Normal<T>(static_cast<size_t>(columns), 1);
      const Input input{random.Normal<float>(static_cast<size_t>(columns), 3), ToDoubles(norm)};
      const auto actual = WithEveryCopy([&](const Context& context) {
        const Array<float> hidden(input.hidden);
        const auto weight = Constant(norm);
        const auto matrix = Constant(w.values);
        const Array<float> logits(static_cast<size_t>(rows));
        EXPECT_EQ(Finish(DecodeLogits({.x = {hidden.data(), weight.data(), kEps},
                                       .weight = Matrix(matrix, rows, columns, w.stride),
                                       .logits = logits.data(),
                                       .format = FormatOf<T>()},
                                      context)),
                  "");
        return logits.Read();
      });
      const auto x = input.Normed<T, double>();
      const auto rounded = input.Normed<T, float>();
      Doubles exact;
      Doubles naive;
      for (int64_t r = 0; r < rows; ++r) {
        exact.push_back(w.Dot(r, x));
        naive.push_back(w.Dot(r, rounded));
      }
      ExpectWithinBudget(actual, exact, naive, std::to_string(columns));
    }
  }
}

template <typename T>
void CheckResidual(int64_t rows, int64_t columns) {
  Random random(8);
  const Weights<T> w(rows, columns, random);
  const auto x = random.Normal<T>(static_cast<size_t>(columns), 1);
  const auto before = random.Normal<float>(static_cast<size_t>(rows), 1);
  const auto actual = WithEveryCopy([&](const Context& context) {
    const Array<T> in(x);
    const auto matrix = Constant(w.values);
    const Array<float> hidden(before);
    EXPECT_EQ(Finish(DecodeAdd({.x = in.data(),
                                .weight = Matrix(matrix, rows, columns, w.stride),
                                .hidden = hidden.data(),
                                .format = FormatOf<T>()},
                               context)),
              "");
    return hidden.Read();
  });
  const Doubles wide = ToDoubles(x);
  const std::vector<float> narrow(wide.begin(), wide.end());
  Doubles exact;
  Doubles naive;
  for (int64_t r = 0; r < rows; ++r) {
    const float h = before[static_cast<size_t>(r)];
    exact.push_back(double{h} + w.Dot(r, wide));
    naive.push_back(h + w.Dot(r, narrow));
  }
  ExpectWithinBudget(actual, exact, naive, std::to_string(columns));
}

TYPED_TEST(DecodeLinear, ResidualIsAdded) {
  for (const int64_t columns : kColumns) {
    for (const int64_t rows : {2, 38, 114}) CheckResidual<TypeParam>(rows, columns);
  }
}

TYPED_TEST(DecodeLinear, RowsMayEndWithATile) { CheckResidual<TypeParam>(114, 1024); }

// Rings for copies in bulk have no room beside the input, or none but the last KiB that a block may
// have (compute capability 9.0).
TYPED_TEST(DecodeLinear, LongInputsHaveRoom) {
  for (const int64_t columns : {17 * 1024, 20 * 1024}) CheckResidual<TypeParam>(2, columns);
}

TYPED_TEST(DecodeLinear, GateAndUpAgreeWithDouble) {
  using T = TypeParam;
  for (const int64_t columns : kColumns) {
    for (const int64_t rows : {1, 19, 57}) {
      Random random(9);
      const Weights<T> w1(rows, columns, random);
      const Weights<T> w3(rows, columns, random);
      const auto norm = random.Normal<T>(static_cast<size_t>(columns), 1);
      const Input input{random.Normal<float>(static_cast<size_t>(columns), 3), ToDoubles(norm)};
      const auto actual = WithEveryCopy([&](const Context& context) {
        const Array<float> hidden(input.hidden);
        const auto weight = Constant(norm);
        const auto gate = Constant(w1.values);
        const auto up = Constant(w3.values);
        const Array<T> out(static_cast<size_t>(rows));
        EXPECT_EQ(Finish(DecodeGateUp({.x = {hidden.data(), weight.data(), kEps},
                                       .w1 = Matrix(gate, rows, columns, w1.stride),
                                       .w3 = Matrix(up, rows, columns, w3.stride),
                                       .out = out.data(),
                                       .format = FormatOf<T>()},
                                      context)),
                  "");
        return out.Read();
      });
      const auto x = input.Normed<T, double>();
      const auto rounded = input.Normed<T, float>();
      Doubles exact;
      Doubles naive;
      for (int64_t r = 0; r < rows; ++r) {
        const double gate = w1.Dot(r, x);
        exact.push_back(gate / (1 + std::exp(-gate)) * w3.Dot(r, x));
        const double naive_gate = Round<T>(w1.Dot(r, rounded));
        const double silu = Round<T>(naive_gate / (1 + std::exp(-naive_gate)));
        naive.push_back(Round<T>(silu * Round<T>(w3.Dot(r, rounded))));
      }
      ExpectWithinBudget(actual, exact, naive, std::to_string(columns));
    }
  }
}

template <typename T>
void CheckQkv(const HeadShape& shape, int64_t columns) {
  const int64_t dim = shape.head_dim;
  const int64_t half = dim / 2;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t rows = (shape.heads + 2 * shape.kv_heads) * dim;
  constexpr int64_t kSlots = 3;
  constexpr int64_t kSlot = 2;
  Random random(10);
  const Weights<T> w(rows, columns, random);
  const auto norm = random.Normal<T>(static_cast<size_t>(columns), 1);
  const Input input{random.Normal<float>(static_cast<size_t>(columns), 3), ToDoubles(norm)};
  std::vector<float> cos;
  std::vector<float> sin;
  for (int64_t j = 0; j < half; ++j) {
    cos.push_back(std::cos(static_cast<float>(3 * j)));
    sin.push_back(std::sin(static_cast<float>(3 * j)));
  }
  const auto q_count = static_cast<size_t>(shape.heads * dim);
  const auto cache_count = static_cast<size_t>(kSlots * shape.kv_heads * dim);
  const auto run = [&](const Context& context) {
    const Array<float> hidden(input.hidden);
    const auto weight = Constant(norm);
    const auto matrix = Constant(w.values);
    const Array<float> c(cos);
    const Array<float> s(sin);
    const Array<int64_t> slot(std::vector<int64_t>{kSlot});
    const Array<T> q(q_count);
    const Array<T> k(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    const Array<T> v(std::vector<T>(cache_count, Narrow<T>(1.0f)));
    EXPECT_EQ(Finish(DecodeQkv({.x = {hidden.data(), weight.data(), kEps},
                                .wqkv = Matrix(matrix, rows, columns, w.stride),
                                .shape = shape,
                                .cos = c.data(),
                                .sin = s.data(),
                                .slot = slot.data(),
                                .q = q.data(),
                                .k_cache = k.data(),
                                .v_cache = v.data(),
                                .format = FormatOf<T>()},
                               context)),
              "");
    std::vector<T> all = q.Read();
    for (const Array<T>* cache : {&k, &v}) {
      const std::vector<T> part = cache->Read();
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  };
  const auto x = input.Normed<T, double>();
  const auto rounded = input.Normed<T, float>();
  Doubles exact(q_count + 2 * cache_count, 1.0);
  Doubles naive = exact;
  for (int64_t head = 0; head < rows / dim; ++head) {
    const int64_t kv = head / (group + 2);
    const int64_t place = head % (group + 2);
    size_t at = static_cast<size_t>((kv * group + place) * dim);
    const auto cached = static_cast<size_t>((kSlot * shape.kv_heads + kv) * dim);
    if (place == group) at = q_count + cached;
    if (place > group) at = q_count + cache_count + cached;
    for (int64_t j = 0; j < half; ++j) {
      const double c = place > group ? 1 : cos[static_cast<size_t>(j)];
      const double s = place > group ? 0 : sin[static_cast<size_t>(j)];
      const double low = w.Dot(head * dim + j, x);
      const double high = w.Dot(head * dim + j + half, x);
      exact[at + static_cast<size_t>(j)] = low * c - high * s;
      exact[at + static_cast<size_t>(j + half)] = high * c + low * s;
      const double naive_low = Round<T>(w.Dot(head * dim + j, rounded));
      const double naive_high = Round<T>(w.Dot(head * dim + j + half, rounded));
      naive[at + static_cast<size_t>(j)] = Round<T>(naive_low * c - naive_high * s);
      naive[at + static_cast<size_t>(j + half)] = Round<T>(naive_high * c + naive_low * s);
    }
  }
  // Where warps share a pair's columns, sums are formed in another order than with copies in bulk.
  for (const auto& actual : {WithEveryRoom(run), InEveryWay(run)}) {
    ExpectWithinBudget(actual, exact, naive, std::to_string(shape.heads) + " heads");
  }
}

TYPED_TEST(DecodeLinear, QkvIsRotatedAndStored) {
  CheckQkv<TypeParam>({6, 3, 16}, 264);
  CheckQkv<TypeParam>({4, 1, 48}, 40);
  CheckQkv<TypeParam>({2, 2, 128}, 24);
  // Two warps share a pair's columns: the second has few of them, or fewer than the first.
  CheckQkv<TypeParam>({3, 1, 32}, 520);
  CheckQkv<TypeParam>({4, 2, 16}, 1288);
  CheckQkv<TypeParam>({20, 10, 80}, 8);  // more pairs in a block than threads
}

TYPED_TEST(DecodeLinear, RefusesWhatItCannotMultiply) {
  using T = TypeParam;
  const Array<T> w(4096);
  const Array<float> x(4096);
  const Context context = Ways()[0];
  const Format format = FormatOf<T>();
  const auto add = [&](const WeightMatrix& weight) {
    return DecodeAdd({w.data(), weight, x.data(), format}, context);
  };
  EXPECT_EQ(add(Matrix(w, 3, 8, 8)), cudaErrorInvalidValue);
  EXPECT_EQ(add(Matrix(w, 2, 12, 16)), cudaErrorInvalidValue);
  EXPECT_EQ(add(Matrix(w, 2, 16, 8)), cudaErrorInvalidValue);
  EXPECT_EQ(add(Matrix(w, 2, 8, 12)), cudaErrorInvalidValue);
  EXPECT_EQ(add(Matrix(w, 2, 25 * 1024, 25 * 1024)), cudaErrorInvalidValue);
  WeightMatrix other = Matrix(w, 2, 8, 8);
  other.data = w.data() + 1;
  EXPECT_EQ(add(other), cudaErrorMisalignedAddress);
  other = Matrix(w, 2, 8, 8);
  other.storage =
      std::is_same_v<T, Half> ? WeightMatrix::Storage::kBfloat16 : WeightMatrix::Storage::kFloat16;
  EXPECT_EQ(add(other), cudaErrorNotSupported);
  EXPECT_EQ(
      DecodeGateUp(
          {{x.data(), w.data(), kEps}, Matrix(w, 2, 8, 8), Matrix(w, 4, 8, 8), w.data(), format},
          context),
      cudaErrorInvalidValue);
  DecodeQkvParams qkv{.x = {x.data(), w.data(), kEps},
                      .wqkv = Matrix(w, 48, 8, 8),
                      .shape = {2, 1, 16},
                      .format = format};
  EXPECT_EQ(DecodeQkv(qkv, context), cudaErrorInvalidValue);
  EXPECT_EQ(
      DecodeLogits({{x.data() + 1, w.data(), kEps}, Matrix(w, 2, 8, 8), x.data(), format}, context),
      cudaErrorMisalignedAddress);
}

}  // namespace
}  // namespace xcomposer::cuda
