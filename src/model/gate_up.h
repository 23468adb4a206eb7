#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "config/model_config.h"
#include "model/adapter_rooms.h"
#include "model/batch_tensors.h"
#include "model/plora_linear.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// The linears of a layer's MLP that share their input, and what follows them: silu(w1 x) * w3 x.
class GateUp {
 public:
  /// `scope` is feed_forward of a layer.
  GateUp(const ModelConfig& config, const WeightScope& scope);

  /// x (T, C) -> (T, F).
  at::Tensor Forward(const at::Tensor& x, const BatchTensors& batch) const;

  /// From x in rooms.narrow to rooms.wide.
  void ForwardInto(const AdapterRooms& rooms, const BatchTensors& batch) const;

  /// All that a batch with base_only() is multiplied with.
  const ops::LinearWeight& w1() const { return w1_.base(); }
  const ops::LinearWeight& w3() const { return w3_.base(); }

  /// How much of it x must have on either side.
  int64_t room_before() const;
  int64_t room_behind() const;

 private:
  /// The memory of both, where PLoRA's factors lie beside the weights: w1's B before it and w3's
  /// behind it, so that x with what belongs to w1 before it and to w3 behind it serves both in one
  /// call.
  struct Pair {
    at::Tensor a;       // (2, R, C)
    at::Tensor joined;  // (2, F, R + C)

    Pair(const WeightScope& scope, int64_t rank, int64_t out, int64_t in);
    PloraMemory OfW1() const { return PloraMemory::Before(joined.select(0, 0), a.select(0, 0)); }
    PloraMemory OfW3() const { return PloraMemory::Behind(joined.select(0, 1), a.select(0, 1)); }
  };
  static std::optional<Pair> MakePair(const ModelConfig& config, const WeightScope& scope);
  static PloraLinear Take(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
                          const std::optional<PloraMemory>& memory);
  /// Both products where they are a pair: gate and up (T, F).
  void ForwardPair(const AdapterRooms& rooms, const BatchTensors& batch) const;

  std::optional<Pair> pair_;
  PloraLinear w1_;
  PloraLinear w3_;
  double scale_;  // of PLoRA in both, where they are a pair
};

}  // namespace xcomposer
