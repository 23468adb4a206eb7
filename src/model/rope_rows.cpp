#include "model/rope_rows.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "config/rope.h"

namespace xcomposer {

RopeRows RopeRowsOf(const ModelConfig& config, const Batch& batch) {
  const auto sequences = static_cast<int64_t>(batch.sequences.size());
  const int64_t half = config.head_dim() / 2;
  RopeRows rows;
  rows.inverse_frequencies = at::empty({sequences, half}, at::kFloat);  // (S, D/2)
  rows.tables = at::empty({batch.rows()}, at::kInt);                    // (T)
  rows.positions = at::empty({batch.rows()}, at::kInt);                 // (T)
  for (int64_t s = 0; s < sequences; ++s) {
    const SequenceSlice& sequence = batch.sequences[static_cast<size_t>(s)];
    const std::vector<float> inverse = InverseFrequencies(sequence.rope_base, config.head_dim());
    std::copy(inverse.begin(), inverse.end(),
              rows.inverse_frequencies.data_ptr<float>() + s * half);
    for (int64_t i = 0; i < sequence.row_count; ++i) {
      const int64_t row = sequence.first_row + i;
      rows.tables.data_ptr<int32_t>()[row] = static_cast<int32_t>(s);
      rows.positions.data_ptr<int32_t>()[row] = static_cast<int32_t>(sequence.position + i);
    }
  }
  return rows;
}

bool ScalesLinearly(const ModelConfig& config) {
  return config.rope.scaling == RopeConfig::Scaling::kLinear && config.rope.factor != 1.0;
}

std::tuple<at::Tensor, at::Tensor> LinearScaledTable(const ModelConfig& config,
                                                     const RopeRows& rows) {
  const int64_t count = rows.positions.size(0);
  const int64_t half = rows.inverse_frequencies.size(1);
  at::Tensor cos = at::empty({count, half}, at::kFloat);  // (T, D/2)
  at::Tensor sin = at::empty({count, half}, at::kFloat);  // (T, D/2)
  for (int64_t row = 0; row < count; ++row) {
    const float t = static_cast<float>(rows.positions.data_ptr<int32_t>()[row]) /
                    static_cast<float>(config.rope.factor);
    const float* inverse =
        rows.inverse_frequencies.data_ptr<float>() + rows.tables.data_ptr<int32_t>()[row] * half;
    for (int64_t j = 0; j < half; ++j) {
      cos.data_ptr<float>()[row * half + j] = std::cos(t * inverse[j]);
      sin.data_ptr<float>()[row * half + j] = std::sin(t * inverse[j]);
    }
  }
  return {cos, sin};
}

}  // namespace xcomposer
