#pragma once

#include <ATen/core/Tensor.h>

#include "batch/batch.h"

namespace xcomposer {

/// What must hold before the rows of a picture are written between the rows of the prompt's ids:
/// the same device, the same type, the same width, and as many rows as the prompt leaves for them.
/// `tokens` is (T, C), `picture` (S, C). Throws kPlan for devices, kConfig for type and width,
/// kRequest for the number of rows; each names the part on either side and where it is.
void CheckJoin(const at::Tensor& tokens, const at::Tensor& picture, const FeatureSpan& span);

}  // namespace xcomposer
