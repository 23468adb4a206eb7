#include "kernels/cuda/linear_few_rows.h"

#include "kernels_cuda/weights.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class LinearFewRowsOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(LinearFewRowsOf, StoredTypes);

struct Case {
  int64_t rows, outputs, columns;
};

// One to four tiles of rows, ragged; weights of less than 16 rows and not a multiple; K of one
// warp's part, of a few warps', and of more than one round of all warps and their loads ahead.
constexpr Case kCases[] = {{1, 3, 32}, {8, 16, 96}, {9, 37, 320}, {19, 24, 1312}, {32, 17, 64}};

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
  std::string Name() const {
    return std::to_string(size.rows) + " x " + std::to_string(size.columns) + " -> " +
           std::to_string(size.outputs);
  }
};

template <typename T, typename Out>
void CheckProduct(cudaError_t (*function)(const FewRowsParams&, const Context&), bool add) {
  for (const Case& size : kCases) {
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
                                 .format = FormatOf<T>()},
                                context)),
                "");
      return y.Read();
    });
    Doubles exact;
    Doubles naive;
    problem.ForResults([&](int64_t, int64_t n, const Doubles& wide, const auto& narrow) {
      const float y = add ? Widen(before[exact.size()]) : 0.0f;
      exact.push_back(double{y} + problem.w.Dot(n, wide));
      naive.push_back(Round<Out>(y + problem.w.Dot(n, narrow)));
    });
    ExpectWithinBudget(actual, exact, naive, problem.Name());
  }
}

TYPED_TEST(LinearFewRowsOf, StoredResultsAgreeWithDouble) {
  CheckProduct<TypeParam, TypeParam>(LinearFewRows, false);
}
TYPED_TEST(LinearFewRowsOf, FloatResultsAgreeWithDouble) {
  CheckProduct<TypeParam, float>(LinearFewRowsToFloat, false);
}
TYPED_TEST(LinearFewRowsOf, ResidualIsAdded) {
  CheckProduct<TypeParam, float>(LinearFewRowsAdd, true);
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
                                .format = FormatOf<T>()},
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
}

}  // namespace
}  // namespace xcomposer::cuda
