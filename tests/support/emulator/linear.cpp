#include "kernels/cuda/linear.h"

#include <vector>

#include "kernels/cuda/linear_check.h"
#include "kernels/cuda/vector.cuh"
#include "support/emulator/device.h"
#include "support/emulator/runtime.h"

// Stands in for cuBLASLt: the same products, its arguments checked alike, and all that it reads and
// writes checked as a kernel's. One thread does all of it.
namespace xcomposer::cuda {

struct LinearPlans::State {};

LinearPlans::LinearPlans(void*, size_t) : state_(std::make_unique<State>()) {}
LinearPlans::~LinearPlans() = default;
cudaError_t LinearPlans::status() const { return cudaSuccess; }

namespace {

template <typename T>
std::vector<float> ReadRow(const void* data, int64_t first, int64_t count) {
  std::vector<float> row(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i += 8) {
    float eight[8];
    Unpack<T>(LoadVector(static_cast<const T*>(data) + first + i), eight);
    std::copy_n(eight, 8, row.begin() + i);
  }
  return row;
}

float Dot(const std::vector<float>& a, const float* b) {
  float parts[8] = {};
  for (size_t i = 0; i < a.size(); i += 8) {
    for (size_t k = 0; k < 8; ++k) parts[k] += a[i + k] * b[i + k];
  }
  float sum = 0.0f;
  for (const float part : parts) sum += part;
  return sum;
}

template <typename T>
void Multiply(const LinearParams& p) {
  const int64_t columns = p.weight.columns;
  std::vector<float> weight;
  for (int64_t n = 0; n < p.weight.rows; ++n) {
    const auto row = ReadRow<T>(p.weight.data, n * p.weight.row_stride, columns);
    weight.insert(weight.end(), row.begin(), row.end());
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const std::vector<float> x = ReadRow<T>(p.x, r * p.x_stride, columns);
    for (int64_t n = 0; n < p.weight.rows; ++n) {
      float value = p.scale * Dot(x, weight.data() + n * columns);
      if (p.bias != nullptr) value += ToFloat(Load(static_cast<const T*>(p.bias) + n));
      const int64_t at = r * p.y_stride + n;
      if (IsFloat(p.result)) {
        float* y = static_cast<float*>(p.y) + at;
        Store(y, IsAdd(p.result) ? Load(y) + value : value);
      } else {
        T* y = static_cast<T*>(p.y) + at;
        Store(y, FromFloat<T>(IsAdd(p.result) ? ToFloat(Load(y)) + value : value));
      }
    }
  }
}

/// The one with this number of a batch.
LinearParams PartOf(const LinearParams& p, int64_t i) {
  LinearParams part = p;
  part.x = static_cast<const char*>(p.x) + i * p.batch.x_distance * 2;
  part.weight.data = static_cast<const char*>(p.weight.data) + i * p.batch.weight_distance * 2;
  part.y = static_cast<char*>(p.y) + i * p.batch.y_distance * (IsFloat(p.result) ? 4 : 2);
  return part;
}

}  // namespace

cudaError_t Linear(const LinearParams& params, LinearPlans&, const Context&) {
  const cudaError_t status = CheckLinear(params);
  if (status != cudaSuccess || params.rows == 0) return status;
  return emulator::LaunchOnMachine({}, [&params] {
    if (ThreadIndex() != 0) return;
    for (int64_t i = 0; i < params.batch.count; ++i) {
      if (params.format == Format::kFloat16) {
        Multiply<Half>(PartOf(params, i));
      } else {
        Multiply<BFloat16>(PartOf(params, i));
      }
    }
  });
}

}  // namespace xcomposer::cuda
