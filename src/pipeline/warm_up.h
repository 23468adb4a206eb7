#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pipeline/decode_steps.h"
#include "pipeline/stage.h"

namespace xcomposer {

/// Runs a picture, a prompt of up to `rows` rows and steps of decoding that nobody asked for, so
/// that the first request does not wait for what happens once: kernels are loaded when they are
/// first launched, libraries choose algorithms, memory is allocated. Overwrites KV blocks: before
/// the first request. `host` as in DecodeSteps.
void WarmUp(Stage& stage, DecodeSteps& decode, int64_t rows, const at::TensorOptions& host);

}  // namespace xcomposer
