#include "model/tok_embeddings.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "model/join_check.h"
#include "ops/ops.h"

namespace xcomposer {

TokEmbeddings::TokEmbeddings(const ModelConfig& config, const WeightScope& scope)
    : weight_(scope.Take("weight", {config.vocab_size, config.hidden_size})) {}

at::Tensor TokEmbeddings::OfIds(const at::Tensor& ids) const {
  return ops::Embedding(ids, weight_);
}

at::Tensor TokEmbeddings::Forward(const Batch& batch,
                                  const std::function<at::Tensor(FeatureHandle)>& features) const {
  at::Tensor ids = at::empty({batch.rows()}, at::kInt);  // (T)
  std::copy(batch.ids.begin(), batch.ids.end(), ids.data_ptr<int32_t>());
  for (const FeatureSpan& span : batch.features) {
    ids.narrow(0, span.first_row, span.row_count).fill_(-1);  // whatever the caller left there
  }
  at::Tensor hidden = OfIds(ids.to(weight_.device()));  // (T, C)
  for (const FeatureSpan& span : batch.features) {
    const at::Tensor picture = features(span.feature);  // (S, C)
    CheckJoin(hidden, picture, span);
    hidden.narrow(0, span.first_row, span.row_count)
        .copy_(picture.narrow(0, span.feature_row, span.row_count));
  }
  return hidden;
}

}  // namespace xcomposer
