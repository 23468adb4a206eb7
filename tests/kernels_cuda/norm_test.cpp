#include "kernels/cuda/norm.h"

#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class Norm : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(Norm, StoredTypes);

// Fewer than a block's threads take, a few more, and rows that leave the last pass ragged.
constexpr int64_t kColumns[] = {8, 24, 1000, 2056, 4104};
constexpr int64_t kRows = 3;
constexpr float kEps = 1e-5f;

struct Case {
  int64_t columns;
  float scale;  // small enough, eps matters
};

template <typename Out, typename Number>
std::vector<Number> Norms(bool layer, const std::vector<Number>& x, const std::vector<double>& w,
                          const std::vector<double>& b, int64_t columns) {
  std::vector<Number> out;
  const auto n = static_cast<size_t>(columns);
  for (size_t row = 0; row < x.size() / n; ++row) {
    const Number* r = x.data() + row * n;
    Number mean = 0;
    for (size_t c = 0; c < n && layer; ++c) mean += r[c];
    mean /= static_cast<Number>(columns);
    Number squares = 0;
    for (size_t c = 0; c < n; ++c) squares += (r[c] - mean) * (r[c] - mean);
    const Number factor = 1 / std::sqrt(squares / static_cast<Number>(columns) + Number{kEps});
    for (size_t c = 0; c < n; ++c) {
      const Number normal = (r[c] - mean) * factor * static_cast<Number>(w[c]);
      out.push_back(layer ? normal + static_cast<Number>(b[c]) : normal);
    }
  }
  return out;
}

template <typename T, typename Out>
std::vector<Out> RunNorm(cudaError_t (*function)(const NormParams&, const Context&),
                         const std::vector<float>& x, const std::vector<T>& weight,
                         const std::vector<T>* bias, int64_t columns, int64_t out_stride = 0) {
  const auto numbers = out_stride == 0 ? x.size() : static_cast<size_t>(kRows * out_stride);
  return InEveryWay([&](const Context& context) {
    const Array<float> in(x);
    const auto w = Constant(weight);
    const auto b = Constant(bias == nullptr ? weight : *bias);
    const Array<Out> out(numbers);
    EXPECT_EQ(Finish(function({.x = in.data(),
                               .weight = w.data(),
                               .bias = bias == nullptr ? nullptr : b.data(),
                               .out = out.data(),
                               .out_stride = out_stride,
                               .rows = kRows,
                               .columns = columns,
                               .eps = kEps,
                               .format = FormatOf<T>()},
                              context)),
              "");
    return out.Read();
  });
}

template <typename T, typename Out>
void CheckNorm(bool layer, const Case& c, uint64_t seed,
               cudaError_t (*function)(const NormParams&, const Context&)) {
  Random random(seed);
  std::vector<float> x = random.Normal<float>(static_cast<size_t>(kRows * c.columns), c.scale);
  for (float& value : x) value += 0.5f * c.scale;  // a mean that is not zero
  const auto weight = random.Normal<T>(static_cast<size_t>(c.columns), 1.0f);
  const auto bias = random.Normal<T>(static_cast<size_t>(c.columns), 1.0f);
  const auto actual = RunNorm<T, Out>(function, x, weight, layer ? &bias : nullptr, c.columns);
  const Doubles w = ToDoubles(weight);
  const Doubles b = ToDoubles(bias);
  const Doubles exact = Norms<Out, double>(layer, Doubles(x.begin(), x.end()), w, b, c.columns);
  const auto plain = Norms<Out, float>(layer, x, w, b, c.columns);
  Doubles naive;
  for (const float value : plain) naive.push_back(Round<Out>(value));
  ExpectWithinBudget(actual, exact, naive, std::to_string(c.columns) + " columns");
}

template <typename T, typename Out>
void CheckAll(bool layer, cudaError_t (*function)(const NormParams&, const Context&)) {
  for (const int64_t columns : kColumns) {
    for (const float scale : {3.0f, 2e-3f}) CheckNorm<T, Out>(layer, {columns, scale}, 1, function);
  }
}

TYPED_TEST(Norm, RmsNormAgreesWithDouble) { CheckAll<TypeParam, TypeParam>(false, RmsNorm); }
TYPED_TEST(Norm, LayerNormAgreesWithDouble) { CheckAll<TypeParam, TypeParam>(true, LayerNorm); }
TYPED_TEST(Norm, LayerNormToFloatAgreesWithDouble) {
  CheckAll<TypeParam, float>(true, LayerNormToFloat);
}

TYPED_TEST(Norm, RmsNormLeavesRoomBesideItsRows) {
  using T = TypeParam;
  for (const int64_t columns : kColumns) {
    Random random(8);
    const auto x = random.Normal<float>(static_cast<size_t>(kRows * columns), 3.0f);
    const auto weight = random.Normal<T>(static_cast<size_t>(columns), 1.0f);
    const auto dense = RunNorm<T, T>(RmsNorm, x, weight, nullptr, columns);
    const int64_t stride = columns + 24;
    const auto apart = RunNorm<T, T>(RmsNorm, x, weight, nullptr, columns, stride);
    for (int64_t row = 0; row < kRows; ++row) {
      const auto begin = apart.begin() + row * stride;
      const auto expected = dense.begin() + row * columns;
      EXPECT_TRUE(SameBits(std::vector<T>(begin, begin + columns),
                           std::vector<T>(expected, expected + columns)))
          << columns;
      for (int64_t c = columns; c < stride; ++c) ASSERT_TRUE(std::isnan(Widen(begin[c])));
    }
  }
}

TYPED_TEST(Norm, OfASumIsTheNormAfterTheSum) {
  using T = TypeParam;
  for (const int64_t columns : kColumns) {
    const auto count = static_cast<size_t>(kRows * columns);
    Random random(7);
    const auto x = random.Normal<float>(count, 3.0f);
    const auto added = random.Normal<T>(count, 3.0f);
    const auto weight = random.Normal<T>(static_cast<size_t>(columns), 1.0f);
    const auto bias = random.Normal<T>(static_cast<size_t>(columns), 1.0f);
    std::vector<float> sum;
    for (size_t i = 0; i < count; ++i) sum.push_back(x[i] + Widen(added[i]));
    std::vector<float> stream;
    const auto out = InEveryWay([&](const Context& context) {
      const Array<float> hidden(x);
      const Array<T> more(added);
      const auto w = Constant(weight);
      const auto b = Constant(bias);
      const Array<T> normed(count);
      EXPECT_EQ(Finish(AddLayerNorm({.x = hidden.data(),
                                     .added = more.data(),
                                     .weight = w.data(),
                                     .bias = b.data(),
                                     .out = normed.data(),
                                     .rows = kRows,
                                     .columns = columns,
                                     .eps = kEps,
                                     .format = FormatOf<T>()},
                                    context)),
                "");
      stream = hidden.Read();
      return normed.Read();
    });
    EXPECT_TRUE(SameBits(stream, sum)) << columns << " columns";
    const auto separate = RunNorm<T, T>(LayerNorm, sum, weight, &bias, columns);
    EXPECT_TRUE(SameBits(out, separate)) << columns << " columns";
  }
}

TYPED_TEST(Norm, RefusesWhatItCannotLoad) {
  const Array<float> x(64);
  const Array<TypeParam> w(64);
  NormParams params{.x = x.data(), .weight = w.data(), .out = w.data(), .rows = 1, .columns = 12};
  EXPECT_EQ(RmsNorm(params, Ways()[0]), cudaErrorInvalidValue);
  params.columns = 8;
  params.x = x.data() + 1;
  EXPECT_EQ(RmsNorm(params, Ways()[0]), cudaErrorMisalignedAddress);
  params.x = x.data();
  for (const int64_t stride : {-8, 12}) {
    params.out_stride = stride;
    EXPECT_EQ(RmsNorm(params, Ways()[0]), cudaErrorInvalidValue);
  }
  params.out_stride = 16;
  EXPECT_EQ(LayerNorm(params, Ways()[0]), cudaErrorInvalidValue);
  EXPECT_EQ(LayerNormToFloat(params, Ways()[0]), cudaErrorInvalidValue);
  params.rows = 0;
  EXPECT_EQ(Finish(RmsNorm(params, Ways()[0])), "");
}

}  // namespace
}  // namespace xcomposer::cuda
