#include "api/picture_budget.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace xcomposer::api {
namespace {

std::string Megabytes(int64_t bytes) { return std::to_string(bytes / 1'000'000) + " MB"; }

}  // namespace

void RequirePicturesFit(const PictureBudget& budget, const std::vector<PictureShape>& pictures) {
  int64_t features = 0;
  int64_t encoding = 0;
  for (const PictureShape& shape : pictures) {
    const int64_t own = FeatureBytes(budget.config, shape);
    features += own;
    encoding = std::max(encoding, PictureActivations(budget.config, shape, budget.traits) - own);
  }
  const int64_t needed = features + std::max<int64_t>(0, encoding - budget.layer_activations);
  if (needed <= budget.room) return;
  throw Error(ErrorKind::kCapacity,
              StrCat("the pictures need ", Megabytes(needed), " of memory (features ",
                     Megabytes(features), ", encoding ", Megabytes(encoding),
                     " at its peak) beside the model, ", Megabytes(budget.room),
                     " are left for them: give fewer or smaller pictures, or lower hd_num"),
              {{"needed", std::to_string(needed)}, {"available", std::to_string(budget.room)}});
}

}  // namespace xcomposer::api
