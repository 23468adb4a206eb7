#include "placement/weight_type.h"

#include <array>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr std::array<WeightType, 5> kAll = {WeightType::kFloat32, WeightType::kFloat16,
                                            WeightType::kBFloat16, WeightType::kInt8,
                                            WeightType::kInt4};

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// What loading to `format` makes of a tensor that is not quantised.
Quantization QuantisedTo(const WeightSpec& spec, WeightType format) {
  if (!IsQuantised(format)) return {};
  const Quantization& wanted = format == WeightType::kInt8 ? kInt8 : kInt4;
  if (spec.part == Part::kOutput) return wanted.ForVocabulary(spec.shape[0]).Head();
  if (spec.part != Part::kLayer || spec.shape.size() != 2) return {};
  for (const char* linear :
       {".wqkv.weight", ".wo.weight", ".w1.weight", ".w2.weight", ".w3.weight"}) {
    if (EndsWith(spec.name, linear)) return wanted;
  }
  return {};
}

}  // namespace

const char* ToString(WeightType format) {
  switch (format) {
    case WeightType::kFloat32:
      return "fp32";
    case WeightType::kFloat16:
      return "fp16";
    case WeightType::kBFloat16:
      return "bf16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      return "int4";
  }
  return "fp16";
}

bool IsQuantised(WeightType format) {
  return format == WeightType::kInt8 || format == WeightType::kInt4;
}

WeightType ParseWeightType(const std::string& name) {
  for (const WeightType format : kAll) {
    if (name == ToString(format)) return format;
  }
  throw Error(ErrorKind::kUsage, StrCat("'", name,
                                        "' is no format of weights; expected auto, fp32, fp16, "
                                        "bf16, int8 or int4"));
}

int64_t WeightBytes(const WeightSpec& spec, WeightType format, WeightType unquantised) {
  int64_t count = 1;
  for (const int64_t extent : spec.shape) count *= extent;
  if (spec.numbers == NumberKind::kInt32) {
    return spec.optional ? 0 : 4 * count;  // g_idx is checked and not kept
  }
  if (spec.numbers == NumberKind::kFloat16) return 2 * count;
  const Quantization made = QuantisedTo(spec, format);
  if (!made) {
    const WeightType kept = IsQuantised(format) ? unquantised : format;
    return (kept == WeightType::kFloat32 ? 4 : 2) * count;
  }
  const int64_t scales = spec.shape[0] * made.GroupsOf(spec.shape[1]);
  return (count * made.bits + scales * (16 + made.bits) + 7) / 8;
}

}  // namespace xcomposer
