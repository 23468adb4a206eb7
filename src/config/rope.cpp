#include "config/rope.h"

#include <cmath>

namespace xcomposer {

double RopeBase(const ModelConfig& config, int64_t total_length) {
  const RopeConfig& rope = config.rope;
  if (rope.scaling != RopeConfig::Scaling::kDynamic || total_length <= rope.max_positions) {
    return rope.theta;
  }
  // The order of operations is Python's: the goldens hold the base as a double.
  const double stretch =
      rope.factor * static_cast<double>(total_length) / static_cast<double>(rope.max_positions) -
      (rope.factor - 1.0);
  const double dim = static_cast<double>(config.head_dim());
  return rope.theta * std::pow(stretch, dim / (dim - 2.0));
}

std::vector<float> InverseFrequencies(double base, int64_t head_dim) {
  const auto rounded = static_cast<float>(base);
  std::vector<float> inverse;
  for (int64_t j = 0; j < head_dim / 2; ++j) {
    const auto exponent =
        static_cast<float>(static_cast<double>(2 * j) / static_cast<double>(head_dim));
    inverse.push_back(1.0f / std::pow(rounded, exponent));
  }
  return inverse;
}

}  // namespace xcomposer
