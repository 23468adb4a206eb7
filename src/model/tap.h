#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "batch/batch.h"

namespace xcomposer {

/// Hands a float32 or uint8 tensor to the listener if it wants this name; otherwise costs nothing.
void PutTap(const TapSink& taps, const std::string& name, const at::Tensor& tensor);

}  // namespace xcomposer
