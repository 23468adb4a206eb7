#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "config/model_config.h"
#include "model/adapter_rooms.h"
#include "model/batch_tensors.h"
#include "model/weight_scope.h"
#include "ops/linear_weight.h"

namespace xcomposer {

/// Where a weight and the factors of its PLoRA lie: B beside the weight in the same rows, so that
/// rows of x with A x beside them are multiplied with both in one product (decision 0011).
struct PloraMemory {
  at::Tensor joined;  ///< (out, in + R): B behind the weight, or before it
  at::Tensor weight;  ///< (out, in)
  at::Tensor a;       ///< (R, in)
  at::Tensor b;       ///< (out, R)

  static PloraMemory Behind(const at::Tensor& joined, const at::Tensor& a);
  static PloraMemory Before(const at::Tensor& joined, const at::Tensor& a);
};

/// y = scale * x W^T for the rows of the spans alone, as ops::LinearInto_ takes them.
void LinearOfRows_(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                   const RowSpans& rows, double scale);

/// Whether a source's weights get such memory: where it copies them anyhow, and where rows that are
/// R numbers longer still begin on 128 bytes.
bool JoinsPlora(const WeightScope& scope, int64_t rank);

/// A linear of the decoder: the base for every row, adapters of 2.5 for the rows of the requests
/// that chose them, PLoRA for picture rows (model specification 5).
class PloraLinear {
 public:
  /// Takes the weight in its packing, Plora_A/B and, where the model has them, lora_sft/dpo/web_A/B
  /// from `scope`.
  PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope, int64_t out,
              int64_t in);

  /// The same, with the weight and PLoRA's factors in this memory.
  PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
              const PloraMemory& memory);

  /// x (T, in) -> (T, out).
  at::Tensor Forward(const at::Tensor& x, const BatchTensors& batch) const;
  at::Tensor Forward(const RoomyRows& x, const BatchTensors& batch) const;

  /// y (T, out), whose rows may lie apart, becomes what Forward gives.
  void ForwardInto(at::Tensor& y, const RoomyRows& x, const BatchTensors& batch) const;

  /// y += what Forward gives. y (T, out) float32: the residual stream.
  void AddTo(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const;
  void AddTo(at::Tensor& y, const RoomyRows& x, const BatchTensors& batch) const;

  /// y += the adapters of 2.5. x (T, in).
  void AddAdapters(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const;

  /// How much of it x must have behind it: 0 where B lies elsewhere.
  int64_t room() const { return joined_.defined() ? plora_->a.size(0) : 0; }

  /// All that a batch with base_only() is multiplied with.
  const ops::LinearWeight& base() const { return weight_; }

 private:
  struct LowRank {
    at::Tensor a;  // (R, in)
    at::Tensor b;  // (out, R)
  };
  void Take(const WeightScope& scope, const PloraMemory& memory);
  static std::optional<LowRank> TakeLowRank(const WeightScope& scope, const std::string& name,
                                            int64_t rank, int64_t out, int64_t in);
  void AddLowRank(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const;
  /// x with scale * A x behind it for picture rows: (T, in + R).
  at::Tensor WithLowRank(const RoomyRows& x, const BatchTensors& batch) const;
  static void AddRows(at::Tensor& y, const at::Tensor& x, const std::optional<LowRank>& factors,
                      const RowSpans& rows, double scale);

  ops::LinearWeight weight_;  // (out, in)
  at::Tensor joined_;         // (out, in + R), undefined where B lies elsewhere
  std::optional<LowRank> plora_;
  std::optional<LowRank> sft_;
  std::optional<LowRank> dpo_;
  std::optional<LowRank> web_;
  double plora_scale_;
};

}  // namespace xcomposer
