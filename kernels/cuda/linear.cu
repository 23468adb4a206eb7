#include <cublasLt.h>

#include <map>
#include <tuple>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_check.h"

namespace xcomposer::cuda {
namespace {

cudaError_t ToCuda(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return cudaSuccess;
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return cudaErrorNotSupported;
    case CUBLAS_STATUS_INVALID_VALUE:
      return cudaErrorInvalidValue;
    case CUBLAS_STATUS_ALLOC_FAILED:
      return cudaErrorMemoryAllocation;
    default:
      return cudaErrorUnknown;
  }
}

/// What the choice of an algorithm depends on.
using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                         int64_t, int64_t, LinearResult, Format, bool>;

/// cuBLASLt's descriptors of one product, and the algorithm for it.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t y = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {weight, x, y}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
  }
};

}  // namespace

struct LinearPlans::State {
  cublasLtHandle_t handle = nullptr;
  cudaError_t status = cudaSuccess;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  std::map<Shape, std::unique_ptr<Plan>> plans;
};

LinearPlans::LinearPlans(void* workspace, size_t workspace_bytes)
    : state_(std::make_unique<State>()) {
  state_->status = ToCuda(cublasLtCreate(&state_->handle));
  state_->workspace = workspace;
  state_->workspace_bytes = workspace_bytes;
}

LinearPlans::~LinearPlans() {
  state_->plans.clear();
  if (state_->handle != nullptr) cublasLtDestroy(state_->handle);
}

cudaError_t LinearPlans::status() const { return state_->status; }

/// One call of Linear. cuBLASLt counts columns first, so that our row-major y (rows, N) is its (N,
/// rows), the product of the transposed weight and x.
class LinearCall {
 public:
  LinearCall(const LinearParams& params, LinearPlans& plans, const Context& context)
      : p_(params), state_(*plans.state_), context_(context) {}

  cudaError_t Run() {
    if (state_.status != cudaSuccess) return state_.status;
    const Shape shape{p_.rows,
                      p_.weight.rows,
                      p_.weight.columns,
                      p_.weight.row_stride,
                      p_.x_stride,
                      p_.y_stride,
                      p_.batch.count,
                      p_.batch.weight_distance,
                      p_.batch.x_distance,
                      p_.batch.y_distance,
                      p_.result,
                      p_.format,
                      p_.bias != nullptr};
    auto found = state_.plans.find(shape);
    if (found == state_.plans.end()) {
      auto plan = std::make_unique<Plan>();
      const cudaError_t status = ToCuda(Make(*plan));
      if (status != cudaSuccess) return status;
      found = state_.plans.emplace(shape, std::move(plan)).first;
    }
    Plan& plan = *found->second;
    if (p_.bias != nullptr) {
      const cublasStatus_t status = cublasLtMatmulDescSetAttribute(
          plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p_.bias, sizeof(p_.bias));
      if (status != CUBLAS_STATUS_SUCCESS) return ToCuda(status);
    }
    const float beta = IsAdd(p_.result) ? 1.0f : 0.0f;
    return ToCuda(cublasLtMatmul(state_.handle, plan.operation, &p_.scale, p_.weight.data,
                                 plan.weight, p_.x, plan.x, &beta, p_.y, plan.y, p_.y, plan.y,
                                 &plan.algorithm, state_.workspace, state_.workspace_bytes,
                                 context_.stream));
  }

 private:
  cublasStatus_t Make(Plan& plan) const {
    const cudaDataType_t stored = p_.format == Format::kFloat16 ? CUDA_R_16F : CUDA_R_16BF;
    const cudaDataType_t result = IsFloat(p_.result) ? CUDA_R_32F : stored;
    const auto outputs = static_cast<uint64_t>(p_.weight.rows);
    const auto columns = static_cast<uint64_t>(p_.weight.columns);
    const auto rows = static_cast<uint64_t>(p_.rows);
    cublasStatus_t status =
        cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const auto then = [&status](cublasStatus_t next) {
      if (status == CUBLAS_STATUS_SUCCESS) status = next;
    };
    const cublasOperation_t transposed = CUBLAS_OP_T;
    then(cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof(transposed)));
    if (p_.bias != nullptr) {
      const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
      then(cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof(epilogue)));
      then(cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                          &stored, sizeof(stored)));
    }
    then(cublasLtMatrixLayoutCreate(&plan.weight, stored, columns, outputs, p_.weight.row_stride));
    then(cublasLtMatrixLayoutCreate(&plan.x, stored, columns, rows, p_.x_stride));
    then(cublasLtMatrixLayoutCreate(&plan.y, result, outputs, rows, p_.y_stride));
    if (p_.batch.count > 1) {
      then(Repeat(plan.weight, p_.batch.weight_distance));
      then(Repeat(plan.x, p_.batch.x_distance));
      then(Repeat(plan.y, p_.batch.y_distance));
    }
    if (status == CUBLAS_STATUS_SUCCESS) status = Choose(plan);
    return status;
  }

  cublasStatus_t Repeat(cublasLtMatrixLayout_t layout, int64_t distance) const {
    const auto count = static_cast<int32_t>(p_.batch.count);
    const cublasStatus_t status = cublasLtMatrixLayoutSetAttribute(
        layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &distance, sizeof(distance));
  }

  /// The first of the algorithms that the heuristic names: the same for a shape on every call,
  /// device and stage, so that results do not depend on timing.
  cublasStatus_t Choose(Plan& plan) const {
    cublasLtMatmulPreference_t preference = nullptr;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &state_.workspace_bytes,
        sizeof(state_.workspace_bytes));
    // Where K is split the parts are added up in float32: in the type of the result they would be
    // rounded on the way.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmulPreferenceSetAttribute(
          preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof(reductions));
    }
    // By default it takes pointers to lie on 256 bytes; those of row spans do not.
    const uint32_t alignment = 16;
    for (const cublasLtMatmulPreferenceAttributes_t attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      if (status != CUBLAS_STATUS_SUCCESS) break;
      status = cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment,
                                                    sizeof(alignment));
    }
    cublasLtMatmulHeuristicResult_t choice{};
    int found = 0;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmulAlgoGetHeuristic(state_.handle, plan.operation, plan.weight, plan.x,
                                              plan.y, plan.y, preference, 1, &choice, &found);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && found == 0) status = CUBLAS_STATUS_NOT_SUPPORTED;
    plan.algorithm = choice.algo;
    return status;
  }

  const LinearParams& p_;
  LinearPlans::State& state_;
  const Context& context_;
};

cudaError_t Linear(const LinearParams& params, LinearPlans& plans, const Context& context) {
  const cudaError_t status = CheckLinear(params);
  if (status != cudaSuccess) return status;
  if (params.rows == 0) return cudaSuccess;
  return LinearCall(params, plans, context).Run();
}

}  // namespace xcomposer::cuda
