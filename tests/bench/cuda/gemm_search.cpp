#include "bench/cuda/gemm_search.h"

#include <cublasLt.h>

#include <array>
#include <stdexcept>
#include <string>

namespace xcomposer::cuda {
namespace {

constexpr int kMostAlgorithms = 8;

void Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(what) + " failed with cuBLAS status " +
                           std::to_string(static_cast<int>(status)));
}

/// cuBLASLt counts columns first: our row-major y is its (n, m), the transposed weight times x.
class Product {
 public:
  explicit Product(const GemmShape& shape) : beta_(shape.add ? 1.0f : 0.0f) {
    Check(cublasLtCreate(&handle_), "cublasLtCreate");
    Check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    Check(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof(transposed)),
          "descriptor");
    const auto m = static_cast<uint64_t>(shape.m);
    const auto n = static_cast<uint64_t>(shape.n);
    const auto k = static_cast<uint64_t>(shape.k / shape.parts);
    const cudaDataType_t result = shape.parts == 1 ? CUDA_R_16F : CUDA_R_32F;
    Check(cublasLtMatrixLayoutCreate(&w_, CUDA_R_16F, k, n, shape.k), "layout");
    Check(cublasLtMatrixLayoutCreate(&x_, CUDA_R_16F, k, m, shape.k), "layout");
    Check(cublasLtMatrixLayoutCreate(&y_, result, n, m, shape.n), "layout");
    if (shape.parts > 1) {
      Repeat(w_, shape.parts, shape.k / shape.parts);
      Repeat(x_, shape.parts, shape.k / shape.parts);
      Repeat(y_, shape.parts, shape.m * shape.n);
      return;
    }
    if (shape.weights == 1) return;
    Repeat(w_, shape.weights, shape.n * shape.k);
    Repeat(x_, shape.weights, 0);
    Repeat(y_, shape.weights, shape.m * shape.n);
  }
  ~Product() {
    for (cublasLtMatrixLayout_t layout : {w_, x_, y_}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
    if (operation_ != nullptr) cublasLtMatmulDescDestroy(operation_);
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  int Algorithms(size_t workspace_bytes,
                 std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms>& found) const {
    cublasLtMatmulPreference_t preference = nullptr;
    Check(cublasLtMatmulPreferenceCreate(&preference), "preference");
    int count = 0;
    cublasStatus_t status =
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes, sizeof(workspace_bytes));
    // As kernels/cuda/linear.cu has it: parts of K are added up in float32.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmulPreferenceSetAttribute(
          preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof(reductions));
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmulAlgoGetHeuristic(handle_, operation_, w_, x_, y_, y_, preference,
                                              kMostAlgorithms, found.data(), &count);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    Check(status, "cublasLtMatmulAlgoGetHeuristic");
    return count;
  }

  void Enqueue(const GemmMemory& memory, const cublasLtMatmulAlgo_t& algorithm,
               cudaStream_t stream) const {
    const float one = 1.0f;
    Check(
        cublasLtMatmul(handle_, operation_, &one, memory.w, w_, memory.x, x_, &beta_, memory.y, y_,
                       memory.y, y_, &algorithm, memory.workspace, memory.workspace_bytes, stream),
        "cublasLtMatmul");
  }

 private:
  static void Repeat(cublasLtMatrixLayout_t layout, int64_t count, int64_t distance) {
    const auto times = static_cast<int32_t>(count);
    Check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &times,
                                           sizeof(times)),
          "layout");
    Check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                           &distance, sizeof(distance)),
          "layout");
  }

  const float beta_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
};

}  // namespace

GemmTimes SearchGemm(const GemmShape& shape, const GemmMemory& memory, GpuTimer& timer) {
  const Product product(shape);
  std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> found{};
  const int count = product.Algorithms(memory.workspace_bytes, found);
  GemmTimes times;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& choice = found[static_cast<size_t>(i)];
    if (choice.state != CUBLAS_STATUS_SUCCESS) continue;
    const Timing timing =
        timer.Measure([&] { product.Enqueue(memory, choice.algo, timer.stream()); },
                      {.least_runs = 5, .most_runs = 15, .budget_s = 0.05, .warm_up_s = 0.01});
    if (times.tried == 0) times.first = timing;
    if (times.tried == 0 || timing.median < times.best.median) times.best = timing;
    ++times.tried;
  }
  if (times.tried == 0) throw std::runtime_error("cuBLASLt names no algorithm");
  return times;
}

}  // namespace xcomposer::cuda
