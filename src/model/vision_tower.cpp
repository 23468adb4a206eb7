#include "model/vision_tower.h"

#include "model/stop.h"
#include "ops/ops.h"

namespace xcomposer {

at::Tensor BiasedLinear::Forward(const at::Tensor& x) const {
  return ops::Linear(x, weight_, bias_);
}

at::Tensor VisionNorm::Forward(const at::Tensor& x) const {
  return ops::LayerNorm(x, weight_, bias_, eps_);
}

at::Tensor VisionNorm::ForwardSum(at::Tensor& x, const at::Tensor& added) const {
  return ops::AddLayerNorm(x, added, weight_, bias_, eps_);
}

void VisionNorm::Apply(at::Tensor& x) const { ops::LayerNorm_(x, weight_, bias_, eps_); }

VisionQkv::VisionQkv(const VisionConfig& config, const WeightScope& scope) : heads_(config.heads) {
  const int64_t width = config.hidden_size;
  const std::vector<std::string> names = {"q_proj", "k_proj", "v_proj"};
  if (!scope.stacks()) {
    for (const std::string& name : names) parts_.emplace_back(scope.Sub(name), width, width);
    return;
  }
  const auto stacked = [&](const std::string& what, at::IntArrayRef shape) {
    std::vector<std::string> whole;
    for (const std::string& name : names) whole.push_back(name + what);
    return scope.TakeStacked(whole, shape);
  };
  parts_.emplace_back(stacked(".weight", {width, width}), stacked(".bias", {width}));
}

std::array<at::Tensor, 3> VisionQkv::Forward(const at::Tensor& x) const {
  const std::vector<int64_t> by_head = {x.size(0), x.size(1), heads_, x.size(2) / heads_};
  std::array<at::Tensor, 3> out;
  if (parts_.size() == 3) {
    for (size_t i = 0; i < 3; ++i) out[i] = parts_[i].Forward(x).view(by_head);
    return out;
  }
  const at::Tensor all = parts_[0].Forward(x);  // (n, N, 3 C)
  for (size_t i = 0; i < 3; ++i) {
    out[i] = all.narrow(2, static_cast<int64_t>(i) * x.size(2), x.size(2)).view(by_head);
  }
  return out;
}

VisionLayer::VisionLayer(const VisionConfig& config, const WeightScope& scope)
    : layer_norm1_(config, scope.Sub("layer_norm1")),
      qkv_(config, scope.Sub("self_attn")),
      out_proj_(scope.Sub("self_attn.out_proj"), config.hidden_size, config.hidden_size),
      layer_norm2_(config, scope.Sub("layer_norm2")),
      fc1_(scope.Sub("mlp.fc1"), config.intermediate_size, config.hidden_size),
      fc2_(scope.Sub("mlp.fc2"), config.hidden_size, config.intermediate_size) {}

// Letters: n views, N patches, C width, H heads, D head dimension, F inner width.
at::Tensor VisionLayer::Forward(at::Tensor& hidden, at::Tensor x, const VisionLayer* next) const {
  x = layer_norm2_.ForwardSum(hidden, Attention(x));  // (n, N + 1, C)
  x = Mlp(x);                                         // (n, N + 1, C)
  if (next != nullptr) return next->first_norm().ForwardSum(hidden, x);
  ops::Add_(hidden, x);
  return {};
}

at::Tensor VisionLayer::Mlp(const at::Tensor& x) const {
  at::Tensor inner = fc1_.Forward(x);  // (n, N + 1, F)
  ops::QuickGelu_(inner);
  return fc2_.Forward(inner);
}

at::Tensor VisionLayer::Attention(const at::Tensor& x) const {
  const auto [q, k, v] = qkv_.Forward(x);                  // (n, N + 1, H, D)
  const at::Tensor mixed = ops::VisionAttention(q, k, v);  // (n, N + 1, H, D)
  return out_proj_.Forward(mixed.flatten(2));              // (n, N + 1, C)
}

VisionTower::VisionTower(const VisionConfig& config, const WeightScope& scope)
    : class_embedding_(scope.TakeFloat("embeddings.class_embedding", {config.hidden_size})),
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

at::Tensor VisionTower::Forward(const at::Tensor& views, const StopTest& stop) const {
  at::Tensor hidden = ops::EmbedViews(
      views,
      {.patches = patch_embedding_, .classes = class_embedding_, .positions = position_embedding_});
  pre_layrnorm_.Apply(hidden);
  at::Tensor x;  // (n, N + 1, C)
  for (size_t i = 0; i < layers_.size(); ++i) {
    ThrowIfStopped(stop);
    if (i == 0) x = layers_[i].first_norm().Forward(hidden);
    x = layers_[i].Forward(hidden, std::move(x),
                           i + 1 < layers_.size() ? &layers_[i + 1] : nullptr);
  }
  return hidden;
}

}  // namespace xcomposer
