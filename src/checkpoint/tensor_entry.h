#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/dtype.h"
#include "checkpoint/fault.h"

namespace xcomposer {

/// More dimensions than any weight has; a bound for parsers.
inline constexpr int64_t kMaxRank = 16;

/// One tensor of a weight file: what it is and where its bytes lie. Read from headers only.
struct TensorEntry {
  std::string name = {};
  DType dtype = DType::kF32;
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};  ///< in elements, never negative
  int64_t file = 0;                   ///< index into Checkpoint::files()
  int64_t offset = 0;                 ///< bytes from the start of the file to the first element
  int64_t byte_length = 0;            ///< bytes from the first element to behind the last one

  int64_t NumElements() const;
  /// Bytes of the tensor when it is laid out densely: NumElements() * SizeOf(dtype).
  int64_t DenseBytes() const;
  /// Whether the elements lie densely in row-major order, so that byte_length == DenseBytes().
  bool IsContiguous() const;
  /// Whether the first element is aligned to its size (mappings start at a page). safetensors files
  /// with an unpadded header may hold unaligned tensors, which must be copied before use.
  bool IsAligned() const;
};

/// The product of `shape`, or nothing where it is negative or leaves int64 (also when a later 0
/// would bring it back).
std::optional<int64_t> ElementCount(const std::vector<int64_t>& shape);

/// Row-major strides in elements.
std::vector<int64_t> ContiguousStrides(const std::vector<int64_t>& shape);

/// Throws unless `name` is 1 to 1,024 bytes of UTF-8 without control characters.
void RequireTensorName(std::string_view name, const Place& place);

/// "[2, 3]".
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace xcomposer
