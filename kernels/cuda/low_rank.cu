#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_check.h"

namespace xcomposer::cuda {

std::vector<RowSpan> JoinSpans(const std::vector<RowSpan>& spans, bool& ascending) {
  std::vector<RowSpan> joined;
  ascending = true;
  int64_t end = 0;
  for (const RowSpan& span : spans) {
    if (span.begin < end || span.end < span.begin) {
      ascending = false;
      return {};
    }
    end = span.end;
    if (span.begin == span.end) continue;
    if (!joined.empty() && joined.back().end == span.begin) {
      joined.back().end = span.end;
    } else {
      joined.push_back(span);
    }
  }
  return joined;
}

cudaError_t LinearOfSpans(const LinearParams& params, const std::vector<RowSpan>& spans,
                          LinearPlans& plans, const Context& context) {
  bool ascending = false;
  const std::vector<RowSpan> joined = JoinSpans(spans, ascending);
  if (!ascending || (!joined.empty() && joined.back().end > params.rows)) {
    return cudaErrorInvalidValue;
  }
  const int64_t result_bytes = IsFloat(params.result) ? 4 : 2;
  for (const RowSpan& span : joined) {
    LinearParams part = params;
    part.x = static_cast<const char*>(params.x) + span.begin * params.x_stride * 2;
    part.y = static_cast<char*>(params.y) + span.begin * params.y_stride * result_bytes;
    part.rows = span.end - span.begin;
    const cudaError_t status = Linear(part, plans, context);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

cudaError_t AddLowRank(const LowRankParams& params, const std::vector<RowSpan>& spans,
                       LinearPlans& plans, const Context& context) {
  bool ascending = false;
  const std::vector<RowSpan> joined = JoinSpans(spans, ascending);
  if (!ascending || !IsAdd(params.result) || params.b.columns != params.a.rows) {
    return cudaErrorInvalidValue;
  }
  const int64_t result_bytes = IsFloat(params.result) ? 4 : 2;
  for (const RowSpan& span : joined) {
    const int64_t rows = span.end - span.begin;
    cudaError_t status =
        Linear({.x = static_cast<const char*>(params.x) + span.begin * params.x_stride * 2,
                .x_stride = params.x_stride,
                .weight = params.a,
                .y = params.inner,
                .y_stride = params.a.rows,
                .rows = rows,
                .format = params.format},
               plans, context);
    if (status != cudaSuccess) return status;
    status =
        Linear({.x = params.inner,
                .x_stride = params.a.rows,
                .weight = params.b,
                .y = static_cast<char*>(params.y) + span.begin * params.y_stride * result_bytes,
                .y_stride = params.y_stride,
                .rows = rows,
                .scale = params.scale,
                .result = params.result,
                .format = params.format},
               plans, context);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
