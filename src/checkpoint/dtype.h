#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace xcomposer {

/// The element types that weight files of the family use; little-endian in the file.
enum class DType { kF32, kF16, kBF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool };

/// Bytes of one element.
int64_t SizeOf(DType dtype);

/// The safetensors name: "BF16", "BOOL" ...
const char* ToString(DType dtype);

/// The type that safetensors calls `name`, or nothing.
std::optional<DType> ParseDType(std::string_view name);

}  // namespace xcomposer
