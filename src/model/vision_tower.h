#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <utility>
#include <vector>

#include "batch/batch.h"
#include "config/model_config.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// A linear with bias, as CLIP and the projector use it.
class BiasedLinear {
 public:
  BiasedLinear(const WeightScope& scope, int64_t out, int64_t in)
      : weight_(scope.Take("weight", {out, in})), bias_(scope.Take("bias", {out})) {}

  /// weight (out, in), bias (out).
  BiasedLinear(at::Tensor weight, at::Tensor bias)
      : weight_(std::move(weight)), bias_(std::move(bias)) {}

  /// x (..., in) -> (..., out).
  at::Tensor Forward(const at::Tensor& x) const;

  /// The type of the weight.
  at::ScalarType stored() const { return weight_.scalar_type(); }

 private:
  at::Tensor weight_;  // (out, in)
  at::Tensor bias_;    // (out)
};

/// CLIP's LayerNorm.
class VisionNorm {
 public:
  VisionNorm(const VisionConfig& config, const WeightScope& scope)
      : eps_(config.layer_norm_eps),
        weight_(scope.Take("weight", {config.hidden_size})),
        bias_(scope.Take("bias", {config.hidden_size})) {}

  /// x (..., C) -> (..., C).
  at::Tensor Forward(const at::Tensor& x) const;

  /// The same in place.
  void Apply(at::Tensor& x) const;

  /// x += added; the norm of that x.
  at::Tensor ForwardSum(at::Tensor& x, const at::Tensor& added) const;

 private:
  double eps_;
  at::Tensor weight_;
  at::Tensor bias_;
};

/// Queries, keys and values of the vision tower's attention: one product where the source of the
/// weights puts them side by side, else three.
class VisionQkv {
 public:
  VisionQkv(const VisionConfig& config, const WeightScope& scope);

  /// x (n, N, C) -> three of (n, N, H, D), whose rows may lie apart.
  std::array<at::Tensor, 3> Forward(const at::Tensor& x) const;

 private:
  int64_t heads_;
  std::vector<BiasedLinear> parts_;  // one or three
};

/// One layer of the vision tower.
class VisionLayer {
 public:
  VisionLayer(const VisionConfig& config, const WeightScope& scope);

  /// What stands before the attention.
  const VisionNorm& first_norm() const { return layer_norm1_; }

  /// hidden (n, N + 1, C) is changed in place; x is its first norm. Returns the first norm of the
  /// `next` layer, where there is one.
  at::Tensor Forward(at::Tensor& hidden, at::Tensor x, const VisionLayer* next) const;

 private:
  at::Tensor Attention(const at::Tensor& x) const;
  at::Tensor Mlp(const at::Tensor& x) const;

  VisionNorm layer_norm1_;
  VisionQkv qkv_;
  BiasedLinear out_proj_;
  VisionNorm layer_norm2_;
  BiasedLinear fc1_;
  BiasedLinear fc2_;
};

/// CLIP ViT-L/14 without its last norm: the output of the last layer (model specification 3.1).
/// Const after construction.
class VisionTower {
 public:
  /// `scope` is vit.vision_tower.vision_model.
  VisionTower(const VisionConfig& config, const WeightScope& scope);

  /// views (n, 3, P, P) -> (n, N + 1, C): the class, then N patches row by row. `stop` is asked
  /// before each layer; throws kCancelled where it says so.
  at::Tensor Forward(const at::Tensor& views, const StopTest& stop) const;

 private:
  at::Tensor class_embedding_;     // (C) float32
  at::Tensor patch_embedding_;     // (C, 3 p p)
  at::Tensor position_embedding_;  // (N + 1, C) float32
  VisionNorm pre_layrnorm_;
  std::vector<VisionLayer> layers_;
};

}  // namespace xcomposer
