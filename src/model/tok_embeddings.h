#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "batch/batch.h"
#include "config/model_config.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// The embedding table, and the merge of picture rows between token rows.
class TokEmbeddings {
 public:
  /// `scope` is model.tok_embeddings.
  TokEmbeddings(const ModelConfig& config, const WeightScope& scope);

  /// ids (T) int32 on the weights' device -> (T, C) float32; a negative id gives zeros.
  at::Tensor OfIds(const at::Tensor& ids) const;

  /// ids and feature spans of the batch -> (T, C) float32. `features` gives the rows (S, C) of a
  /// handle; throws as CheckJoin where they do not go with the rows of the ids.
  at::Tensor Forward(const Batch& batch,
                     const std::function<at::Tensor(FeatureHandle)>& features) const;

 private:
  at::Tensor weight_;  // (V, C)
};

}  // namespace xcomposer
