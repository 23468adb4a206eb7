#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "batch/batch.h"
#include "config/model_config.h"

namespace xcomposer {

/// What the rotary angles of a batch's rows are made of (model specification 6.1 to 6.4): each
/// sequence's own base, and positions. On the host until copied.
struct RopeRows {
  at::Tensor inverse_frequencies;  ///< (S, D/2) float32
  at::Tensor tables;               ///< (T) int32: the row's sequence
  at::Tensor positions;            ///< (T) int32
};

RopeRows RopeRowsOf(const ModelConfig& config, const Batch& batch);

/// Whether positions are divided by a factor, which RopeRows cannot say. No checkpoint of the
/// family does so, but its config class allows it.
bool ScalesLinearly(const ModelConfig& config);

/// Cosines and sines (T, D/2) under linear scaling: t = position / factor in float32. On the host.
std::tuple<at::Tensor, at::Tensor> LinearScaledTable(const ModelConfig& config,
                                                     const RopeRows& rows);

}  // namespace xcomposer
