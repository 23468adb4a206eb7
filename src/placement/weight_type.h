#pragma once

#include <cstdint>
#include <string>

#include "config/weight_names.h"

namespace xcomposer {

/// How weights lie in memory.
enum class WeightType { kFloat32, kFloat16, kBFloat16, kInt8, kInt4 };

/// "fp32", "fp16", "bf16", "int8", "int4".
const char* ToString(WeightType format);

/// int8 and int4, which are made of other weights while they are loaded.
bool IsQuantised(WeightType format);

/// The inverse of ToString. Throws kUsage with the list of names.
WeightType ParseWeightType(const std::string& name);

/// Bytes of one tensor. int8 and int4 quantise the five base linears of the decoder layers and the
/// output matrix as config/quantization.h says: codes, and for each output and group of inputs a
/// float16 scale and a zero of the width of a code; everything else is kept as `unquantised`. The
/// parts of what the checkpoint has quantised already stay what they are.
int64_t WeightBytes(const WeightSpec& spec, WeightType format,
                    WeightType unquantised = WeightType::kBFloat16);

}  // namespace xcomposer
