#include "kernels/cuda/elementwise.h"

#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class Elementwise : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(Elementwise, StoredTypes);

// Less than one thread's eight, a ragged end, and more than one block.
constexpr int64_t kCounts[] = {1, 7, 8, 19, 2048, 4101};

template <typename Number>
Number Sigmoid(Number x) {
  return 1 / (1 + std::exp(-x));
}
template <typename Number>
Number QuickGeluOf(Number x) {
  return x * Sigmoid(Number{1.702} * x);
}
template <typename Number>
Number GeluOf(Number x) {
  return x / 2 * (1 + std::erf(x / std::sqrt(Number{2})));
}

template <typename T>
void CheckActivation(cudaError_t (*function)(const ActivationParams&, const Context&),
                     double (*exact_of)(double), float (*naive_of)(float)) {
  for (const int64_t count : kCounts) {
    const auto x = Random(2).Normal<T>(static_cast<size_t>(count), 2.0f);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<T> values(x);
      EXPECT_EQ(Finish(function({values.data(), count, FormatOf<T>()}, context)), "");
      return values.Read();
    });
    Doubles exact;
    Doubles naive;
    for (const T value : x) {
      exact.push_back(exact_of(static_cast<double>(Widen(value))));
      naive.push_back(Round<T>(naive_of(Widen(value))));
    }
    ExpectWithinBudget(actual, exact, naive, std::to_string(count));
  }
}

TYPED_TEST(Elementwise, QuickGeluAgreesWithDouble) {
  CheckActivation<TypeParam>(QuickGelu, QuickGeluOf<double>, QuickGeluOf<float>);
}
TYPED_TEST(Elementwise, GeluAgreesWithDouble) {
  CheckActivation<TypeParam>(Gelu, GeluOf<double>, GeluOf<float>);
}

TYPED_TEST(Elementwise, SiluMulAgreesWithDouble) {
  using T = TypeParam;
  for (const int64_t columns : {8, 1000, 2064}) {
    constexpr int64_t kRows = 3;
    const int64_t stride = 2 * columns;  // gate and up side by side
    const auto x = Random(3).Normal<T>(static_cast<size_t>(kRows * stride), 2.0f);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<T> in(x);
      const Array<T> out(static_cast<size_t>(kRows * columns));
      EXPECT_EQ(Finish(SiluMul({.gate = in.data(),
                                .up = in.data() + columns,
                                .in_stride = stride,
                                .out = out.data(),
                                .out_stride = columns,
                                .rows = kRows,
                                .columns = columns,
                                .format = FormatOf<T>()},
                               context)),
                "");
      // In place: of each row only the gate's half changes.
      EXPECT_EQ(Finish(SiluMul({.gate = in.data(),
                                .up = in.data() + columns,
                                .in_stride = stride,
                                .out = in.data(),
                                .out_stride = stride,
                                .rows = kRows,
                                .columns = columns,
                                .format = FormatOf<T>()},
                               context)),
                "");
      const std::vector<T> all = out.Read();
      std::vector<T> expected = x;
      for (int64_t row = 0; row < kRows; ++row) {
        std::copy_n(all.begin() + row * columns, columns, expected.begin() + row * stride);
      }
      EXPECT_TRUE(SameBits(in.Read(), expected)) << columns;
      return all;
    });
    Doubles exact;
    Doubles naive;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t c = 0; c < columns; ++c) {
        const float gate = Widen(x[static_cast<size_t>(row * stride + c)]);
        const float up = Widen(x[static_cast<size_t>(row * stride + columns + c)]);
        exact.push_back(double{gate} * Sigmoid(double{gate}) * double{up});
        naive.push_back(Round<T>(Round<T>(gate * Sigmoid(gate)) * double{up}));
      }
    }
    ExpectWithinBudget(actual, exact, naive, std::to_string(columns) + " columns");
  }
}

TYPED_TEST(Elementwise, AddIsOneRounding) {
  using T = TypeParam;
  for (const int64_t count : kCounts) {
    Random random(4);
    const auto y = random.Normal<float>(static_cast<size_t>(count), 2.0f);
    const auto x = random.Normal<T>(static_cast<size_t>(count), 2.0f);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<float> sum(y);
      const Array<T> in(x);
      EXPECT_EQ(Finish(Add({sum.data(), in.data(), count, FormatOf<T>()}, context)), "");
      return sum.Read();
    });
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(actual[i], y[i] + Widen(x[i])) << i;
  }
}

TYPED_TEST(Elementwise, EmbeddingGathersRows) {
  using T = TypeParam;
  constexpr int64_t kVocab = 13;
  const std::vector<int32_t> ids = {12, 0, -1, 5, 13};
  for (const int64_t columns : {8, 2072}) {
    const auto rows = Random(5).Normal<T>(static_cast<size_t>(kVocab * columns), 1.0f);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<int32_t> chosen(ids);
      const auto table = Constant(rows);
      const Array<float> out(ids.size() * static_cast<size_t>(columns));
      EXPECT_EQ(Finish(Embedding({.ids = chosen.data(),
                                  .table = table.data(),
                                  .out = out.data(),
                                  .rows = static_cast<int64_t>(ids.size()),
                                  .columns = columns,
                                  .vocab = kVocab,
                                  .format = FormatOf<T>()},
                                 context)),
                "");
      return out.Read();
    });
    for (size_t row = 0; row < ids.size(); ++row) {
      for (int64_t c = 0; c < columns; ++c) {
        const float found = actual[row * static_cast<size_t>(columns) + static_cast<size_t>(c)];
        if (ids[row] >= kVocab) {
          ASSERT_TRUE(std::isnan(found));
        } else if (ids[row] < 0) {
          ASSERT_EQ(found, 0.0f);
        } else {
          ASSERT_EQ(found, Widen(rows[static_cast<size_t>(ids[row] * columns + c)]));
        }
      }
    }
  }
}

TYPED_TEST(Elementwise, RefusesWhatItCannotLoad) {
  using T = TypeParam;
  const Array<T> x(64);
  const Array<float> y(64);
  const Context context = Ways()[0];
  EXPECT_EQ(QuickGelu({x.data() + 1, 8, FormatOf<T>()}, context), cudaErrorMisalignedAddress);
  EXPECT_EQ(Gelu({x.data(), -1, FormatOf<T>()}, context), cudaErrorInvalidValue);
  EXPECT_EQ(Finish(Gelu({x.data(), 0, FormatOf<T>()}, context)), "");
  EXPECT_EQ(Add({y.data(), x.data(), -1, FormatOf<T>()}, context), cudaErrorInvalidValue);
  EXPECT_EQ(Finish(Add({y.data(), x.data(), 0, FormatOf<T>()}, context)), "");
  EXPECT_EQ(Add({y.data() + 1, x.data(), 8, FormatOf<T>()}, context), cudaErrorMisalignedAddress);
  SiluMulParams silu{x.data(), x.data() + 8, 12, x.data(), 8, 1, 8, FormatOf<T>()};
  EXPECT_EQ(SiluMul(silu, context), cudaErrorInvalidValue);
  silu.in_stride = 16;
  silu.rows = 0;
  EXPECT_EQ(Finish(SiluMul(silu, context)), "");
  silu.rows = -1;
  EXPECT_EQ(SiluMul(silu, context), cudaErrorInvalidValue);
  silu.rows = 1;
  silu.columns = 24;
  EXPECT_EQ(SiluMul(silu, context), cudaErrorInvalidValue);
  silu.columns = 8;
  for (const int64_t stride : {0, 12}) {
    silu.out_stride = stride;
    EXPECT_EQ(SiluMul(silu, context), cudaErrorInvalidValue);
  }
  silu.out_stride = 8;
  silu.up = x.data() + 9;
  EXPECT_EQ(SiluMul(silu, context), cudaErrorMisalignedAddress);
  EXPECT_EQ(Embedding({nullptr, x.data(), y.data(), 1, 12, 5, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace xcomposer::cuda
