#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "batch/batch.h"
#include "config/model_config.h"

namespace xcomposer {

/// Cosines and sines of every row of the batch, each (T, D/2) float32 (model specification 6.1
/// to 6.4): the base is the row's sequence's own; linear scaling divides positions by the factor.
std::tuple<at::Tensor, at::Tensor> RopeRows(const ModelConfig& config, const Batch& batch,
                                            at::Device device);

}  // namespace xcomposer
