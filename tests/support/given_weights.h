#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "model/weight_scope.h"

namespace xcomposer {

/// Weights that a test gave by name.
class GivenWeights final : public WeightSource {
 public:
  std::map<std::string, at::Tensor> tensors;

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef) override { return tensors.at(name); }
};

}  // namespace xcomposer
