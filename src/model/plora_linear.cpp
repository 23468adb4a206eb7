#include "model/plora_linear.h"

#include "base/check.h"
#include "ops/ops.h"

namespace xcomposer {

PloraLinear::PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
                         int64_t out, int64_t in)
    : weight_(scope.TakeLinear(out, in)),
      plora_(TakeLowRank(scope, "Plora", config.plora_of(which).rank, out, in)),
      sft_(TakeLowRank(scope, "lora_sft", config.adapters.sft, out, in)),
      dpo_(TakeLowRank(scope, "lora_dpo", config.adapters.dpo, out, in)),
      web_(TakeLowRank(scope, "lora_web", config.adapters.web, out, in)),
      plora_scale_(config.plora_of(which).scale) {}

std::optional<PloraLinear::LowRank> PloraLinear::TakeLowRank(const WeightScope& scope,
                                                             const std::string& name, int64_t rank,
                                                             int64_t out, int64_t in) {
  if (rank == 0) return std::nullopt;
  return LowRank{scope.Take(name + "_A.weight", {rank, in}),
                 scope.Take(name + "_B.weight", {out, rank})};
}

void PloraLinear::AddRows(at::Tensor& y, const at::Tensor& x, const std::optional<LowRank>& factors,
                          const RowSpans& rows, double scale) {
  if (rows.empty()) return;
  Require(factors.has_value(), ErrorKind::kRequest,
          "the request chose an adapter that this checkpoint does not have");
  ops::LinearAddRows_(y, x, factors->a, factors->b, rows, scale);
}

at::Tensor PloraLinear::Forward(const at::Tensor& x, const BatchTensors& batch) const {
  at::Tensor y = ops::Linear(x, weight_);  // (T, out)
  AddLowRank(y, x, batch);
  return y;
}

void PloraLinear::AddTo(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const {
  ops::LinearAdd_(y, x, weight_);
  AddLowRank(y, x, batch);
}

void PloraLinear::AddLowRank(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const {
  AddRows(y, x, web_, batch.web_rows, 1.0);    // y += Bw (Aw x)
  AddRows(y, x, sft_, batch.write_rows, 1.0);  // y += Bs (As x)
  AddRows(y, x, dpo_, batch.write_rows, 1.0);  // y += Bd (Ad x)
  AddRows(y, x, plora_, batch.picture_rows, plora_scale_);
}

}  // namespace xcomposer
