#include "pipeline/storage_cast.h"

#include <cmath>

#include "base/check.h"

namespace xcomposer {
namespace {

template <typename From, typename To>
CastCounts Compare(const at::Tensor& before, const at::Tensor& after) {
  const From* from = before.const_data_ptr<From>();
  const To* to = after.const_data_ptr<To>();
  CastCounts counts;
  for (int64_t i = 0; i < before.numel(); ++i) {
    const auto x = static_cast<float>(from[i]);
    const auto y = static_cast<float>(to[i]);
    counts.overflows += std::isfinite(x) && !std::isfinite(y);
    counts.underflows += x != 0.0f && y == 0.0f;
  }
  return counts;
}

template <typename From>
CastCounts CompareTo(const at::Tensor& before, const at::Tensor& after) {
  switch (after.scalar_type()) {
    case at::kHalf:
      return Compare<From, at::Half>(before, after);
    case at::kBFloat16:
      return Compare<From, at::BFloat16>(before, after);
    default:
      return {};  // float32 holds every value of the others
  }
}

CastCounts Counts(const at::Tensor& before, const at::Tensor& after) {
  switch (before.scalar_type()) {
    case at::kHalf:
      return CompareTo<at::Half>(before, after);
    case at::kBFloat16:
      return CompareTo<at::BFloat16>(before, after);
    default:
      return CompareTo<float>(before, after);
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

at::Tensor StoredAs(const at::Tensor& weight, WeightStorage storage, const std::string& name,
                    CastCounts& counts) {
  const at::ScalarType wanted = TypeOf(storage, weight.scalar_type());
  if (wanted == weight.scalar_type()) return weight;
  const at::Tensor cast = weight.to(wanted);
  const CastCounts here = Counts(weight, cast);
  if (here.overflows > 0) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat(here.overflows, " values of ", name, " do not fit into ", wanted,
                       "; load with --dtype auto, bf16 or fp32"),
                {{"tensor", name}});
  }
  counts.underflows += here.underflows;
  return cast;
}

}  // namespace xcomposer
