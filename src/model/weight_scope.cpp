#include "model/weight_scope.h"

#include "base/check.h"

namespace xcomposer {

at::Tensor WeightSource::Take(const std::string& name, at::IntArrayRef shape) {
  Check(taken_.insert(name).second, "the weight ", name, " was taken twice");
  at::Tensor weight = Load(name, shape);
  if (weight.sizes() != shape) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat(name, " has shape ", weight.sizes(), ", expected ", shape),
                {{"tensor", name}});
  }
  const at::ScalarType type = weight.scalar_type();
  Require(type == at::kBFloat16 || type == at::kHalf || type == at::kFloat, ErrorKind::kCheckpoint,
          name, " has type ", type, ", expected bfloat16, float16 or float32");
  Check(weight.is_contiguous(), "the source gave ", name, " with gaps");
  return weight;
}

void WeightSource::RequireTaken(const std::vector<std::string>& names) const {
  std::string left;
  for (const std::string& name : names) {
    if (taken_.count(name) == 0) left += (left.empty() ? "" : ", ") + name;
  }
  Check(left.empty(), "weights that the model did not take: ", left);
}

}  // namespace xcomposer
