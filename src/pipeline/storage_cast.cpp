#include "pipeline/storage_cast.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/half_cast.h"

namespace xcomposer {
namespace {

template <typename From, typename To>
CastCounts CastAll(const void* in, void* out, size_t count) {
  const From* from = static_cast<const From*>(in);
  To* to = static_cast<To*>(out);
  CastCounts counts;
  for (size_t i = 0; i < count; ++i) {
    const auto x = static_cast<float>(from[i]);
    to[i] = static_cast<To>(x);
    const auto y = static_cast<float>(to[i]);
    counts.overflows += std::isfinite(x) && !std::isfinite(y);
    counts.underflows += x != 0.0f && y == 0.0f;
  }
  return counts;
}

/// What --dtype fp16 asks for on the CPU.
template <>
CastCounts CastAll<at::BFloat16, at::Half>(const void* in, void* out, size_t count) {
  cpu::HalfLosses losses;
  cpu::HalvesOfBfloat16(static_cast<const uint16_t*>(in), static_cast<uint16_t*>(out),
                        static_cast<int64_t>(count), losses, cpu::BestIsa());
  return {.overflows = losses.overflows, .underflows = losses.underflows};
}

template <typename From>
CastCounts CastFrom(const void* in, void* out, at::ScalarType to, size_t count) {
  switch (to) {
    case at::kHalf:
      return CastAll<From, at::Half>(in, out, count);
    case at::kBFloat16:
      return CastAll<From, at::BFloat16>(in, out, count);
    default:
      return CastAll<From, float>(in, out, count);
  }
}

at::ScalarType TypeOf(WeightStorage storage, at::ScalarType stored) {
  switch (storage) {
    case WeightStorage::kAsStored:
      return stored;
    case WeightStorage::kFloat32:
      return at::kFloat;
    case WeightStorage::kFloat16:
      return at::kHalf;
    case WeightStorage::kBFloat16:
      return at::kBFloat16;
  }
  return stored;
}

}  // namespace

CastCounts Cast(const void* in, at::ScalarType from, void* out, at::ScalarType to, size_t count) {
  if (from == to) {
    std::memcpy(out, in, count * c10::elementSize(from));
    return {};
  }
  switch (from) {
    case at::kHalf:
      return CastFrom<at::Half>(in, out, to, count);
    case at::kBFloat16:
      return CastFrom<at::BFloat16>(in, out, to, count);
    default:
      return CastFrom<float>(in, out, to, count);
  }
}

void RequireNoOverflow(const CastCounts& counts, at::ScalarType type, const std::string& name) {
  if (counts.overflows == 0) return;
  throw Error(ErrorKind::kCheckpoint,
              StrCat(counts.overflows, " values of ", name, " do not fit into ", type,
                     "; load with --dtype bf16, or on the CPU with auto or fp32"),
              {{"tensor", name}});
}

at::Tensor StoredAs(const at::Tensor& weight, WeightStorage storage, const std::string& name,
                    CastCounts& counts) {
  const at::ScalarType wanted = TypeOf(storage, weight.scalar_type());
  if (wanted == weight.scalar_type()) return weight;
  at::Tensor cast = at::empty(weight.sizes(), weight.options().dtype(wanted));
  const CastCounts here =
      Cast(weight.const_data_ptr(), weight.scalar_type(), cast.mutable_data_ptr(), wanted,
           static_cast<size_t>(weight.numel()));
  RequireNoOverflow(here, wanted, name);
  counts.underflows += here.underflows;
  return cast;
}

}  // namespace xcomposer
