#include "kernels/cpu/quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/quantise_group.h"
#include "kernels/cpu/round_up.h"

namespace xcomposer::cpu {
namespace {

constexpr uint16_t kSmallestFloat16 = 1;  // 2^-24

/// One output after the other, group by group.
class Quantiser {
 public:
  Quantiser(const StoredMatrix& weight, const QuantiseTarget& target, const IsaKernels& kernels)
      : weight_(weight),
        target_(target),
        kernels_(kernels),
        bits_(BitsOf(target.packing)),
        row_(static_cast<size_t>(RoundUp(weight.columns, kQuantisedLanes))),
        codes_(row_.size()) {}

  void Run(int64_t n, QuantiseLoss& loss) {
    const auto* bytes = static_cast<const unsigned char*>(weight_.data);
    kernels_.widen[static_cast<size_t>(weight_.format)](
        bytes + n * weight_.row_stride * SizeOf(weight_.format), row_.data(), weight_.columns);
    for (const float value : row_) loss.not_finite += !std::isfinite(value);
    loss.squares += Squares();
    if (loss.not_finite > 0) return;
    for (int64_t k = 0; k < weight_.columns; k += target_.group) {
      const int64_t size = std::min(target_.group, weight_.columns - k);
      const GroupChoice choice = kernels_.quantise_group[IntegerIndex(target_.packing)](
          row_.data() + k, RoundUp(size, kQuantisedLanes), codes_.data());
      loss.squared_error += choice.error;
      Write(n, k, size, choice);
    }
  }

 private:
  double Squares() const {
    double sums[8] = {};
    for (size_t i = 0; i < row_.size(); ++i) {
      sums[i % 8] += static_cast<double>(row_[i]) * row_[i];
    }
    return std::accumulate(sums, sums + 8, 0.0);
  }

  void Write(int64_t n, int64_t k, int64_t size, const GroupChoice& choice) {
    const int64_t per_word = 32 / bits_;
    const int64_t panel = n / kPanelOutputs;
    const int64_t lane = n % kPanelOutputs;
    const int64_t groups = DivideUp(weight_.columns, target_.group);
    const int64_t place = (panel * groups + k / target_.group) * kPanelOutputs + lane;
    target_.scales[place] = choice.scale;
    Put(target_.zeros[place / per_word], lane % per_word, choice.zero);
    uint32_t* word = target_.words + lane +
                     (panel * (weight_.columns / per_word) + k / per_word) * kPanelOutputs;
    for (int64_t i = 0; i < size; i += per_word) {
      uint32_t fields = 0;
      for (int64_t j = 0; j < per_word; ++j) Put(fields, j, codes_[static_cast<size_t>(i + j)]);
      *word = fields;
      word += kPanelOutputs;
    }
  }

  /// Fields are written in ascending order; the first one clears the word.
  void Put(uint32_t& word, int64_t field, float code) const {
    const uint32_t bits = static_cast<uint32_t>(code) << (bits_ * static_cast<int>(field));
    word = field == 0 ? bits : word | bits;
  }

  const StoredMatrix& weight_;
  const QuantiseTarget& target_;
  const IsaKernels& kernels_;
  int bits_;
  std::vector<float> row_;  // zeros behind it fill its last group up
  std::vector<float> codes_;
};

}  // namespace

uint16_t ScaleOf(float value) {
  return std::clamp(ToFloat16(value), kSmallestFloat16, kLargestFloat16);
}

uint16_t ToFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // not a number
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and more
  if (magnitude < 0x38800000u) {  // below 2^-14: steps of 2^-24, by a sum that rounds to them
    float small;
    std::memcpy(&small, &magnitude, sizeof(small));
    small += 0.5f;
    uint32_t rounded;
    std::memcpy(&rounded, &small, sizeof(rounded));
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000u));
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

QuantiseLoss Quantise(const StoredMatrix& weight, const QuantiseTarget& target,
                      const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  const int64_t panels = weight.rows / kPanelOutputs;
  std::vector<QuantiseLoss> losses(static_cast<size_t>(panels));
  context.pool.ParallelFor(panels, 1, [&](int64_t begin, int64_t end, int) {
    Quantiser quantiser(weight, target, kernels);
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t n = panel * kPanelOutputs; n < (panel + 1) * kPanelOutputs; ++n) {
        quantiser.Run(n, losses[static_cast<size_t>(panel)]);
      }
    }
  });
  QuantiseLoss total;
  for (const QuantiseLoss& loss : losses) {
    total.squared_error += loss.squared_error;
    total.squares += loss.squares;
    total.not_finite += loss.not_finite;
  }
  return total;
}

}  // namespace xcomposer::cpu
