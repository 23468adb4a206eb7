#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/linear.h"
#include "kernels/guarded.h"
#include "kernels/linear_check.h"

namespace xcomposer::cpu {

struct Shape {
  int64_t rows, outputs, depth;
};

inline std::string Name(const Shape& s) {
  return std::to_string(s.rows) + " x " + std::to_string(s.outputs) + " x " +
         std::to_string(s.depth);
}

/// x, y and a bfloat16 weight whose rows lie `gap` numbers apart.
struct BfloatCase {
  BfloatCase(const Shape& s, Random& random, int64_t gap = 3)
      : shape(s),
        x_stride(s.depth + 5),
        w_stride(s.depth + gap),
        y_stride(s.outputs + 2),
        x(s.rows * x_stride),
        y(s.rows * y_stride),
        weight(s.outputs * w_stride - gap),
        bias(s.outputs, Format::kBfloat16, random) {
    random.Fill(x);
    random.Fill(y);
    for (int64_t i = 0; i < weight.size(); ++i) Set(i, random.Value());
  }

  /// The i-th number of the weight, cut off.
  void Set(int64_t i, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    weight[i] = static_cast<uint16_t>(bits >> 16);
  }
  float Weight(int64_t n, int64_t k) const {
    const uint32_t bits = static_cast<uint32_t>(weight[n * w_stride + k]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  /// That y is, within the budget, what the products of `counted(x)` make of `before`.
  template <typename Counted>
  void Expect(const std::vector<float>& before, const LinearParams& params, double budget,
              const Counted& counted) const {
    ExpectLinear(params, shape.outputs, y, before, bias, budget, [&](int64_t t, int64_t n) {
      DoubleSum sum;
      for (int64_t k = 0; k < shape.depth; ++k) {
        sum.Add(static_cast<double>(counted(x[t * x_stride + k])) * Weight(n, k));
      }
      return sum;
    });
  }
  LinearParams Params() {
    return {.x = x.data(),
            .x_stride = x_stride,
            .rows = shape.rows,
            .weight = StoredMatrix{.data = weight.data(),
                                   .format = Format::kBfloat16,
                                   .rows = shape.outputs,
                                   .columns = shape.depth,
                                   .row_stride = w_stride},
            .y = y.data(),
            .y_stride = y_stride};
  }

  Shape shape;
  int64_t x_stride, w_stride, y_stride;
  Guarded<float> x, y;
  Guarded<uint16_t> weight;
  Stored bias;
};

/// A row has the same bits whatever rows are beside it, on one thread and on four.
inline void ExpectRowsAreAlike(const IsaKernels& kernels, int64_t gap, Random& random) {
  ThreadPool one(1);
  ThreadPool four(4);
  for (const Shape& shape : {Shape{290, 40, 200}, Shape{70, 230, 1050}}) {
    BfloatCase c(shape, random, gap);
    Linear(c.Params(), four, kernels);
    for (const int64_t rows : {17, 32, 33, 50}) {
      for (int64_t first = 0; first + rows <= shape.rows; first += 37) {
        Guarded<float> some(rows * shape.outputs);
        LinearParams params = c.Params();
        params.x += first * c.x_stride;
        params.rows = rows;
        params.y = some.data();
        params.y_stride = shape.outputs;
        Linear(params, one, kernels);
        for (int64_t i = 0; i < some.size(); ++i) {
          ASSERT_EQ(some[i], c.y[(first + i / shape.outputs) * c.y_stride + i % shape.outputs])
              << rows << " rows from " << first << ", " << i;
        }
      }
    }
  }
}

/// Numbers that show where a kernel uses scratch memory that it has not written.
inline void Poison(ThreadPool& pool) {
  constexpr int64_t kFloats = int64_t{1} << 15;
  const float none = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(pool.SharedScratch(kFloats), kFloats, none);
  for (int worker = 0; worker < pool.threads(); ++worker) {
    std::fill_n(pool.WorkerScratch(worker, kFloats), kFloats, none);
  }
}

}  // namespace xcomposer::cpu
