#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda/decoder.h"
#include "bench/cuda/device_memory.h"
#include "bench/cuda/figures.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_few_rows.h"

namespace xcomposer::cuda {

/// variant.fewrows.PRODUCT.ROWS.SHAPE: the products of few rows alone, as they are launched and in
/// other shapes, and variant.cublas.PRODUCT.ROWS beside them; in turn over the weights of all
/// layers, so that none is still in the cache. A shape is called after what is not left to the
/// launcher: n and k warps, s stages.
class FewRowsVariants {
 public:
  FewRowsVariants(const Decoder& decoder, Figures& figures, GpuTimer& timer, DeviceMemory& memory);

  void Measure();

 private:
  enum class Product { kQkv, kWo, kGateUp, kW2, kLogits };
  struct Named {
    Product product;
    const char* name;
  };

  void Measure(const Named& product, int64_t rows);
  void Enqueue(Product product, int64_t layer, int64_t rows, const FewRowsShape& shape) const;
  void EnqueueCublas(Product product, int64_t layer, int64_t rows, LinearPlans& plans) const;
  void Give(const std::string& name, Product product, const std::function<void(int64_t)>& layer);
  WeightMatrix Weight(Product product, int64_t layer) const;
  /// The launcher's choice first.
  std::vector<FewRowsShape> Shapes(Product product, int64_t rows) const;

  const Decoder& decoder_;
  Figures& figures_;
  GpuTimer& timer_;
  const void* x_ = nullptr;         // (kFewRows, F)
  float* hidden_ = nullptr;         // (kFewRows, C)
  void* out_ = nullptr;             // (kFewRows, 2 F), stored
  float* logits_ = nullptr;         // (kFewRows, V)
  const float* angles_ = nullptr;   // (kFewRows, D / 2)
  const int64_t* slots_ = nullptr;  // (kFewRows)
  void* keys_ = nullptr;            // (kFewRows, G, D)
  void* values_ = nullptr;          // (kFewRows, G, D)
  void* workspace_ = nullptr;
};

}  // namespace xcomposer::cuda
