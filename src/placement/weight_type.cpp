#include "placement/weight_type.h"

#include <array>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr std::array<WeightType, 6> kAll = {WeightType::kFloat32,  WeightType::kFloat16,
                                            WeightType::kBFloat16, WeightType::kBf12,
                                            WeightType::kInt8,     WeightType::kInt4};

/// What loading to `format` makes of a tensor that is not quantised.
Quantization QuantisedTo(const WeightSpec& spec, WeightType format) {
  if (!IsQuantised(format) || !spec.linear) return {};
  const Quantization& wanted = format == WeightType::kInt8 ? kInt8 : kInt4;
  if (spec.part == Part::kOutput) return wanted.ForVocabulary(spec.shape[0]).Head();
  return wanted;
}

/// Whether loading to `format` packs the tensor into 12 bits a number.
bool BecomesBf12(const WeightSpec& spec, WeightType format) {
  if (format != WeightType::kBf12 || !spec.linear) return false;
  // What a checkpoint in 12 bits has otherwise did not pay when it was packed, and does not now.
  if (!spec.in_12_bits.value_or(true)) return false;
  return spec.shape[0] % kBf12Outputs == 0 && spec.shape[1] % kBf12Inputs == 0;
}

int64_t NumbersOf(const WeightSpec& spec) {
  int64_t count = 1;
  for (const int64_t extent : spec.shape) count *= extent;
  return count;
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
    case WeightType::kBf12:
      return "bf12";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      return "int4";
  }
  return "fp16";
}

bool IsPacked(WeightType format) { return format == WeightType::kBf12 || IsQuantised(format); }

bool IsQuantised(WeightType format) {
  return format == WeightType::kInt8 || format == WeightType::kInt4;
}

WeightType ParseWeightType(const std::string& name) {
  for (const WeightType format : kAll) {
    if (name == ToString(format)) return format;
  }
  throw Error(ErrorKind::kUsage, StrCat("'", name,
                                        "' is no format of weights; expected auto, fp32, fp16, "
                                        "bf16, bf12, int8 or int4"));
}

int64_t WeightBytes(const WeightSpec& spec, WeightType format, WeightType unquantised) {
  const int64_t count = NumbersOf(spec);
  if (spec.numbers == NumberKind::kInt32) {
    return spec.optional ? 0 : 4 * count;  // g_idx is checked and not kept
  }
  if (spec.numbers == NumberKind::kFloat16) return 2 * count;
  if (BecomesBf12(spec, format)) {
    const int64_t outputs = spec.shape[0];
    return count / 2 * 3 + 4 * outputs + 4 * (outputs / kBf12Outputs + 1);
  }
  const Quantization made = QuantisedTo(spec, format);
  if (!made) {
    const WeightType kept = IsPacked(format) ? unquantised : format;
    return (kept == WeightType::kFloat32 ? 4 : 2) * count;
  }
  const int64_t scales = spec.shape[0] * made.GroupsOf(spec.shape[1]);
  return (count * made.bits + scales * (16 + made.bits) + 7) / 8;
}

int64_t Bf12Reserve(const WeightSpec& spec, WeightType format) {
  if (!BecomesBf12(spec, format)) return 0;
  return NumbersOf(spec) / kNumbersOfBf12Outlier * kBf12OutlierBytes;
}

}  // namespace xcomposer
