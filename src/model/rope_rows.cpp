#include "model/rope_rows.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "ops/ops.h"

namespace xcomposer {
namespace {

/// No checkpoint of the family scales linearly, but its config class allows it: t = p / factor in
/// float32.
std::tuple<at::Tensor, at::Tensor> LinearScaled(const at::Tensor& bases,
                                                const at::Tensor& positions,
                                                const ModelConfig& config) {
  const int64_t rows = positions.size(0);
  const int64_t half = config.head_dim() / 2;
  at::Tensor cos = at::empty({rows, half}, at::kFloat);  // (T, D/2)
  at::Tensor sin = at::empty({rows, half}, at::kFloat);  // (T, D/2)
  for (int64_t row = 0; row < rows; ++row) {
    const auto base = static_cast<float>(bases.data_ptr<double>()[row]);
    const float t = static_cast<float>(positions.data_ptr<int64_t>()[row]) /
                    static_cast<float>(config.rope.factor);
    for (int64_t j = 0; j < half; ++j) {
      const float exponent = static_cast<float>(2 * j) / static_cast<float>(config.head_dim());
      const float angle = t * (1.0f / std::pow(base, exponent));
      cos.data_ptr<float>()[row * half + j] = std::cos(angle);
      sin.data_ptr<float>()[row * half + j] = std::sin(angle);
    }
  }
  return {cos, sin};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> RopeRows(const ModelConfig& config, const Batch& batch,
                                            at::Device device) {
  at::Tensor bases = at::empty({batch.rows()}, at::kDouble);    // (T)
  at::Tensor positions = at::empty({batch.rows()}, at::kLong);  // (T)
  for (const SequenceSlice& sequence : batch.sequences) {
    for (int64_t i = 0; i < sequence.row_count; ++i) {
      const int64_t row = sequence.first_row + i;
      bases.data_ptr<double>()[row] = sequence.rope_base;
      positions.data_ptr<int64_t>()[row] = sequence.position + i;
    }
  }
  if (config.rope.scaling == RopeConfig::Scaling::kLinear && config.rope.factor != 1.0) {
    auto [cos, sin] = LinearScaled(bases, positions, config);
    return {cos.to(device), sin.to(device)};
  }
  return ops::RopeTable(bases.to(device), positions.to(device), config.head_dim());
}

}  // namespace xcomposer
