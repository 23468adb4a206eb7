#include "model/head.h"

#include "config/quantization.h"
#include "ops/ops.h"

namespace xcomposer {

Head::Head(const ModelConfig& config, const WeightScope& root)
    : eps_(config.rms_norm_eps),
      norm_(root.Take("model.norm.weight", {config.hidden_size})),
      output_(root.Sub(kHeadModule).TakeHead(config.vocab_size, config.hidden_size)) {}

at::Tensor Head::Norm(const at::Tensor& hidden) const { return ops::RmsNorm(hidden, norm_, eps_); }

void Head::Score(at::Tensor& scores, const at::Tensor& hidden) const {
  ops::NormScores_(scores, hidden, norm_, eps_, output_);
}

}  // namespace xcomposer
