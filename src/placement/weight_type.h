#pragma once

#include <cstdint>
#include <string>

#include "config/weight_names.h"

namespace xcomposer {

/// How weights lie in memory.
enum class WeightType { kFloat32, kFloat16, kBFloat16, kBf12, kInt8, kInt4 };

/// Of a matrix that bf12 packs one number in so many may be an outlier. The same as the kernels'
/// (torch_stage.cpp asks).
inline constexpr int64_t kNumbersOfBf12Outlier = 512;
inline constexpr int64_t kBf12OutlierBytes = 8;

/// "fp32", "fp16", "bf16", "bf12", "int8", "int4".
const char* ToString(WeightType format);

/// bf12, int8 and int4: linears and output matrix are packed while they are loaded, for CPUs only.
bool IsPacked(WeightType format);

/// int8 and int4: packed, and rounded for it.
bool IsQuantised(WeightType format);

/// The inverse of ToString. Throws kUsage with the list of names.
WeightType ParseWeightType(const std::string& name);

/// Bytes of one tensor. int8 and int4 quantise the five base linears of the decoder layers and the
/// output matrix as config/quantization.h says: codes, and for each output and group of inputs a
/// float16 scale and a zero of the width of a code; bf12 packs those of the same matrices whose
/// size fits into 12 bits a number, with a float32 scale for each output and a place for every four
/// of them and one more, without outliers (Bf12Reserve). Everything else is kept as `unquantised`.
/// The parts of what the checkpoint has quantised already stay what they are.
int64_t WeightBytes(const WeightSpec& spec, WeightType format,
                    WeightType unquantised = WeightType::kBFloat16);

/// Bytes that memory is planned with for the outliers of a matrix in bf12: one number in 512 is one
/// at most, else it is not packed. Trained and drawn matrices have far fewer, so that counting what
/// is read leaves them out. 0 for all else.
int64_t Bf12Reserve(const WeightSpec& spec, WeightType format);

}  // namespace xcomposer
