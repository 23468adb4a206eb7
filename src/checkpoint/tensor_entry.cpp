#include "checkpoint/tensor_entry.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/utf8.h"

namespace xcomposer {

std::optional<int64_t> ElementCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    // A zero is left to the end, so that the strides of the other dimensions are bounded too.
    const std::optional<int64_t> product = CheckedMul(count, std::max<int64_t>(size, 1));
    if (!product) return std::nullopt;
    count = *product;
  }
  return std::find(shape.begin(), shape.end(), 0) == shape.end() ? count : 0;
}

std::vector<int64_t> ContiguousStrides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

int64_t TensorEntry::NumElements() const {
  const std::optional<int64_t> count = ElementCount(shape);
  Check(count.has_value(), "the parser let a shape through whose product overflows");
  return *count;
}

int64_t TensorEntry::DenseBytes() const { return NumElements() * SizeOf(dtype); }

bool TensorEntry::IsContiguous() const {
  if (NumElements() == 0) return true;
  const std::vector<int64_t> dense = ContiguousStrides(shape);
  for (size_t i = 0; i < shape.size(); ++i) {
    // The stride of a dimension of one element is never used.
    if (shape[i] != 1 && strides[i] != dense[i]) return false;
  }
  return true;
}

bool TensorEntry::IsAligned() const { return offset % SizeOf(dtype) == 0; }

void RequireTensorName(std::string_view name, const Place& place) {
  constexpr size_t kLongestName = 1024;
  if (name.empty()) Refuse(place, "a tensor has an empty name");
  if (name.size() > kLongestName) {
    Refuse(place, "a tensor name of ", name.size(), " bytes; at most ", kLongestName,
           " are accepted; it starts ", Quoted(name));
  }
  const bool control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (control || !IsValidUtf8(name)) {
    Refuse(place, "the tensor name ", Quoted(name),
           " is not UTF-8 text without control characters");
  }
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += StrCat(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

}  // namespace xcomposer
