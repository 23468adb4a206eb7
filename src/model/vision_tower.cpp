#include "model/vision_tower.h"

#include <ATen/ops/empty.h>

#include "ops/ops.h"

namespace xcomposer {

at::Tensor BiasedLinear::Forward(const at::Tensor& x) const {
  return ops::Linear(x, weight_, bias_);
}

at::Tensor VisionNorm::Forward(const at::Tensor& x) const {
  return ops::LayerNorm(x, weight_, bias_, eps_);
}

void VisionNorm::Apply(at::Tensor& x) const { ops::LayerNorm_(x, weight_, bias_, eps_); }

VisionLayer::VisionLayer(const VisionConfig& config, const WeightScope& scope)
    : heads_(config.heads),
      layer_norm1_(config, scope.Sub("layer_norm1")),
      q_proj_(scope.Sub("self_attn.q_proj"), config.hidden_size, config.hidden_size),
      k_proj_(scope.Sub("self_attn.k_proj"), config.hidden_size, config.hidden_size),
      v_proj_(scope.Sub("self_attn.v_proj"), config.hidden_size, config.hidden_size),
      out_proj_(scope.Sub("self_attn.out_proj"), config.hidden_size, config.hidden_size),
      layer_norm2_(config, scope.Sub("layer_norm2")),
      fc1_(scope.Sub("mlp.fc1"), config.intermediate_size, config.hidden_size),
      fc2_(scope.Sub("mlp.fc2"), config.hidden_size, config.intermediate_size) {}

// Letters: n views, N patches, C width, H heads, D head dimension, F inner width.
void VisionLayer::Forward(at::Tensor& hidden) const {
  at::Tensor x = layer_norm1_.Forward(hidden);  // (n, N + 1, C)
  ops::Add_(hidden, Attention(x));
  x = fc1_.Forward(layer_norm2_.Forward(hidden));  // (n, N + 1, F)
  ops::QuickGelu_(x);
  ops::Add_(hidden, fc2_.Forward(x));
}

at::Tensor VisionLayer::Attention(const at::Tensor& x) const {
  const std::vector<int64_t> by_head = {x.size(0), x.size(1), heads_, x.size(2) / heads_};
  at::Tensor q = q_proj_.Forward(x).view(by_head);   // (n, N + 1, H, D)
  at::Tensor k = k_proj_.Forward(x).view(by_head);   // (n, N + 1, H, D)
  at::Tensor v = v_proj_.Forward(x).view(by_head);   // (n, N + 1, H, D)
  at::Tensor mixed = ops::VisionAttention(q, k, v);  // (n, N + 1, H, D)
  return out_proj_.Forward(mixed.flatten(2));        // (n, N + 1, C)
}

VisionTower::VisionTower(const VisionConfig& config, const WeightScope& scope)
    : config_(config),
      class_embedding_(scope.TakeFloat("embeddings.class_embedding", {config.hidden_size})),
      patch_embedding_(scope
                           .Take("embeddings.patch_embedding.weight",
                                 {config.hidden_size, 3, config.patch, config.patch})
                           .flatten(1)),
      position_embedding_(scope.TakeFloat("embeddings.position_embedding.weight",
                                          {config.patches() + 1, config.hidden_size})),
      pre_layrnorm_(config, scope.Sub("pre_layrnorm")) {
  for (int64_t m = 0; m < config.layers; ++m) {
    layers_.emplace_back(config, scope.Sub("encoder.layers." + std::to_string(m)));
  }
}

/// The 14x14 convolution with stride 14 is a linear over the pixels of each patch.
at::Tensor VisionTower::Embed(const at::Tensor& views) const {
  const int64_t n = views.size(0);
  const int64_t g = config_.grid();
  const int64_t p = config_.patch;
  at::Tensor patches = views
                           .view({n, 3, g, p, g, p})         // (n, 3, row, y, column, x)
                           .permute({0, 2, 4, 1, 3, 5})      // (n, row, column, 3, y, x)
                           .reshape({n, g * g, 3 * p * p});  // (n, N, 3 p p)
  at::Tensor hidden =
      at::empty({n, g * g + 1, config_.hidden_size}, views.options());  // (n, N + 1, C)
  hidden.narrow(1, 0, 1).copy_(class_embedding_.view({1, 1, -1}));
  hidden.narrow(1, 1, g * g).copy_(ops::LinearFloat(patches, patch_embedding_));
  return hidden.add_(position_embedding_);
}

at::Tensor VisionTower::Forward(const at::Tensor& views) const {
  at::Tensor hidden = Embed(views);  // (n, N + 1, C)
  pre_layrnorm_.Apply(hidden);
  for (const VisionLayer& layer : layers_) layer.Forward(hidden);
  return hidden.narrow(1, 1, config_.patches());  // (n, N, C)
}

}  // namespace xcomposer
