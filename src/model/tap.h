#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "batch/batch.h"

namespace xcomposer {

/// Hands a tensor to the listener if it wants this name, uint8 as it is and all else as float32;
/// otherwise costs nothing.
void PutTap(const TapSink& taps, const std::string& name, const at::Tensor& tensor);

}  // namespace xcomposer
