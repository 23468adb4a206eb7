#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/weight_matrix.h"

// Linear layers of many rows, by cuBLASLt; sums in float32.
namespace xcomposer::cuda {

/// What cuBLASLt needs between calls, and its choice of algorithm for each shape: asked for once,
/// so that a call neither searches nor allocates. One per stream: calls that share a workspace must
/// not run at the same time. Not thread-safe.
class LinearPlans {
 public:
  /// `workspace` is device memory of the caller's, on 256 bytes, that outlives this.
  LinearPlans(void* workspace, size_t workspace_bytes);
  ~LinearPlans();
  LinearPlans(const LinearPlans&) = delete;
  LinearPlans& operator=(const LinearPlans&) = delete;

  /// Of making the handle; anything but cudaSuccess makes every call fail.
  cudaError_t status() const;

 private:
  friend class LinearCall;
  struct State;
  std::unique_ptr<State> state_;
};

enum class LinearResult {
  kStored,    ///< y as stored in `format`
  kFloat,     ///< y float32
  kAddFloat,  ///< y += , float32: the residual stream
  kAddStored  ///< y += , as stored: a low-rank part of a product that is stored
};

/// Products of one shape in one call. Each one's weight, x and y lie so many numbers behind those
/// of the one before; multiples of 8. x may be the same for all, or overlap.
struct LinearBatch {
  int64_t count = 1;
  int64_t weight_distance = 0;
  int64_t x_distance = 0;
  int64_t y_distance = 0;  ///< at least N
};

struct LinearParams {
  const void* x = nullptr;     ///< (rows, K), as stored, rows `x_stride` apart
  int64_t x_stride = 0;        ///< numbers, a multiple of 8
  WeightMatrix weight;         ///< (N, K)
  const void* bias = nullptr;  ///< (N), as stored; not for results that are added
  void* y = nullptr;           ///< (rows, N), rows `y_stride` apart
  int64_t y_stride = 0;
  int64_t rows = 0;
  float scale = 1.0f;  ///< of the product
  LinearResult result = LinearResult::kStored;
  LinearBatch batch = {};  ///< of more than one: without bias
  Format format = Format::kFloat16;
};

/// y = scale * x weight^T + bias, or y += scale * x weight^T. The first call of a shape asks
/// cuBLASLt for its algorithm; capture a graph after that.
cudaError_t Linear(const LinearParams& params, LinearPlans& plans, const Context& context);

/// A half-open range of rows.
struct RowSpan {
  int64_t begin = 0;
  int64_t end = 0;
};

/// Linear for the rows of each span, all of them among params.rows; the others stay as they are.
/// Spans as AddLowRank has them. With y beside x in the same rows this is the first product of
/// partial LoRA: the second is then part of the linear layer's own, whose weight (N, K + R) has b
/// beside it.
cudaError_t LinearOfSpans(const LinearParams& params, const std::vector<RowSpan>& spans,
                          LinearPlans& plans, const Context& context);

/// Partial LoRA (model specification 5): y[rows] += scale * b (a x[rows]) for the rows of each
/// span.
struct LowRankParams {
  const void* x = nullptr;  ///< (rows, K), as stored
  int64_t x_stride = 0;
  WeightMatrix a;         ///< (R, K)
  WeightMatrix b;         ///< (N, R)
  void* inner = nullptr;  ///< (rows of the longest run of spans, R): memory between the products
  void* y = nullptr;      ///< (rows, N)
  int64_t y_stride = 0;
  float scale = 1.0f;
  LinearResult result = LinearResult::kAddStored;  ///< or kAddFloat
  Format format = Format::kFloat16;
};

/// Spans ascending, without overlap; those that touch become one product. No spans leave y as it
/// is.
cudaError_t AddLowRank(const LowRankParams& params, const std::vector<RowSpan>& spans,
                       LinearPlans& plans, const Context& context);

/// The spans that AddLowRank multiplies: without empty ones, touching ones joined. Empty if they
/// are not ascending.
std::vector<RowSpan> JoinSpans(const std::vector<RowSpan>& spans, bool& ascending);

}  // namespace xcomposer::cuda
