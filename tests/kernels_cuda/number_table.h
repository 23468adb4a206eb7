#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "bench/cuda/device_memory.h"
#include "kernels_cuda/kernel_test.h"

// The model in the order of its paper, one number after the other. With Number = double it is what
// the kernels are compared with; with float, rounded to float16 wherever the kernels store, the
// plain computation of the same precision.
namespace xcomposer::cuda {

template <typename Number>
struct Table {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<Number> values;

  Table(int64_t rows, int64_t columns)
      : rows(rows), columns(columns), values(static_cast<size_t>(rows * columns)) {}
  Number& At(int64_t row, int64_t column) {
    return values[static_cast<size_t>(row * columns + column)];
  }
  Number At(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * columns + column)];
  }
};

template <typename Number>
Number StoredAs(Number x) {
  if constexpr (std::is_same_v<Number, double>) return x;
  return static_cast<Number>(Round<Half>(x));
}

/// Numbers on the device as Number.
template <typename Number>
class Source {
 public:
  explicit Source(const DeviceMemory& memory) : memory_(memory) {}

  Table<Number> Matrix(const WeightMatrix& m) const {
    // Up to the last row's end, which may be that of the allocation.
    const int64_t all = (m.rows - 1) * m.row_stride + m.columns;
    const std::vector<Number> strided = Vector(m.data, all);
    Table<Number> out(m.rows, m.columns);
    for (int64_t r = 0; r < m.rows; ++r) {
      std::copy_n(strided.begin() + r * m.row_stride, m.columns, &out.At(r, 0));
    }
    return out;
  }
  std::vector<Number> Vector(const void* data, int64_t count) const {
    return Read(data, 1, count).values;
  }
  Table<Number> Read(const void* data, int64_t rows, int64_t columns) const {
    const std::vector<Half> host = memory_.Read(static_cast<const Half*>(data), rows * columns);
    Table<Number> out(rows, columns);
    for (size_t i = 0; i < host.size(); ++i) out.values[i] = static_cast<Number>(Widen(host[i]));
    return out;
  }

 private:
  const DeviceMemory& memory_;
};

/// x W^T, not rounded.
template <typename Number>
Table<Number> Times(const Table<Number>& x, const Table<Number>& w) {
  Table<Number> y(x.rows, w.rows);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t n = 0; n < w.rows; ++n) {
      Number sum = 0;
      for (int64_t k = 0; k < x.columns; ++k) sum += x.At(i, k) * w.At(n, k);
      y.At(i, n) = sum;
    }
  }
  return y;
}

template <typename Number>
Table<Number> Rounded(Table<Number> x) {
  for (Number& value : x.values) value = StoredAs(value);
  return x;
}

/// Softmax over the first `keys` of the scores, mixing `values`' columns first .. first + width.
template <typename Number>
void Attend(const Number* q, const Table<Number>& k, const Table<Number>& v, int64_t first,
            int64_t width, int64_t keys, Number* out) {
  std::vector<Number> weights;
  for (int64_t t = 0; t < keys; ++t) {
    Number score = 0;
    for (int64_t d = 0; d < width; ++d) score += q[d] * k.At(t, first + d);
    weights.push_back(score / std::sqrt(static_cast<Number>(width)));
  }
  const Number largest = *std::max_element(weights.begin(), weights.end());
  Number sum = 0;
  for (Number& w : weights) {
    w = std::exp(w - largest);
    sum += w;
  }
  for (int64_t d = 0; d < width; ++d) {
    Number mixed = 0;
    for (int64_t t = 0; t < keys; ++t) {
      mixed += StoredAs(weights[static_cast<size_t>(t)]) * v.At(t, first + d);
    }
    out[d] = StoredAs(mixed / sum);
  }
}

/// The residual stream takes what a layer found.
template <typename Number>
void AddTo(Table<Number>& hidden, const Table<Number>& more) {
  for (size_t i = 0; i < hidden.values.size(); ++i) hidden.values[i] += more.values[i];
}

}  // namespace xcomposer::cuda
