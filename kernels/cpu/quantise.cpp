#include "kernels/cpu/quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {
namespace {

constexpr int kShrinkSteps = 8;
constexpr float kShrinkStep = 0.04f;
constexpr uint16_t kSmallestFloat16 = 1;  // 2^-24
constexpr uint16_t kLargestFloat16 = 0x7bff;

float FromFloat16(uint16_t stored) { return Widen<Portable, Format::kFloat16>(&stored); }

/// A scale that is never zero and never infinite.
uint16_t ScaleOf(float value) {
  return std::clamp(ToFloat16(value), kSmallestFloat16, kLargestFloat16);
}

/// Nearest whole number of |x| < 2^22, by a sum that leaves no bits behind the point.
float Nearest(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

struct Choice {
  uint16_t scale = kSmallestFloat16;
  float zero = 0;
  double error = 0;
};

/// Codes of the values for a scale and a zero, and the squared error.
double Encode(const std::vector<float>& values, uint16_t scale, float zero, float most,
              std::vector<float>& codes) {
  const float s = FromFloat16(scale);
  const float inverse = 1.0f / s;
  float error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    // The clamp comes first: a value far outside of the range must stay below 2^22.
    const float code = Nearest(std::min(std::max(values[i] * inverse + zero, 0.0f), most));
    const float off = values[i] - s * (code - zero);
    codes[i] = code;
    error += off * off;
  }
  return error;
}

/// The scale that fits the codes best.
float FittedScale(const std::vector<float>& values, const std::vector<float>& codes, float zero) {
  double products = 0;
  double squares = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double step = static_cast<double>(codes[i]) - zero;
    products += step * values[i];
    squares += step * step;
  }
  return squares > 0 ? static_cast<float>(products / squares) : 0.0f;
}

Choice Choose8(const std::vector<float>& values, std::vector<float>& codes) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  Choice choice{.zero = 128};
  choice.scale = ScaleOf(largest / 127);
  if (FromFloat16(choice.scale) * 127 < largest && choice.scale < kLargestFloat16) ++choice.scale;
  choice.error = Encode(values, choice.scale, choice.zero, 255, codes);
  return choice;
}

Choice Choose4(const std::vector<float>& values, std::vector<float>& codes) {
  float low = 0;
  float high = 0;
  for (const float value : values) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  Choice best;
  std::vector<float> tried(codes.size());
  const auto consider = [&](uint16_t scale, float zero) {
    const double error = Encode(values, scale, zero, 15, tried);
    if (best.zero > 0 && error >= best.error) return;
    best = {.scale = scale, .zero = zero, .error = error};
    codes = tried;
  };
  for (int step = 0; step < kShrinkSteps; ++step) {
    const float shrink = 1 - kShrinkStep * static_cast<float>(step);
    const uint16_t scale = ScaleOf(shrink * (high - low) / 15);
    consider(scale, std::clamp(Nearest(-shrink * low / FromFloat16(scale)), 1.0f, 15.0f));
  }
  const float fitted = FittedScale(values, codes, best.zero);
  if (fitted > 0) consider(ScaleOf(fitted), best.zero);
  return best;
}

/// One output after the other, group by group.
class Quantiser {
 public:
  Quantiser(const StoredMatrix& weight, const QuantiseTarget& target)
      : weight_(weight), target_(target), bits_(BitsOf(target.packing)) {}

  void Run(int64_t n, QuantiseLoss& loss) {
    for (int64_t k = 0; k < weight_.columns; k += target_.group) {
      const int64_t size = std::min(target_.group, weight_.columns - k);
      Read(n, k, size);
      for (const float value : values_) {
        loss.not_finite += !std::isfinite(value);
        loss.squares += static_cast<double>(value) * value;
      }
      if (loss.not_finite > 0) return;
      const Choice choice = bits_ == 8 ? Choose8(values_, codes_) : Choose4(values_, codes_);
      loss.squared_error += choice.error;
      Write(n, k, choice);
    }
  }

 private:
  void Read(int64_t n, int64_t k, int64_t size) {
    values_.resize(static_cast<size_t>(size));
    codes_.resize(static_cast<size_t>(size));
    const auto* bytes = static_cast<const unsigned char*>(weight_.data);
    const unsigned char* from = bytes + (n * weight_.row_stride + k) * SizeOf(weight_.format);
    for (int64_t i = 0; i < size; ++i) {
      values_[static_cast<size_t>(i)] = Value(from + i * SizeOf(weight_.format));
    }
  }

  float Value(const unsigned char* place) const {
    if (weight_.format == Format::kFloat32) {
      float value;
      std::memcpy(&value, place, sizeof(value));
      return value;
    }
    uint16_t stored;
    std::memcpy(&stored, place, sizeof(stored));
    return weight_.format == Format::kBfloat16 ? Widen<Portable, Format::kBfloat16>(&stored)
                                               : FromFloat16(stored);
  }

  void Write(int64_t n, int64_t k, const Choice& choice) {
    const int64_t per_word = 32 / bits_;
    const int64_t panel = n / kPanelOutputs;
    const int64_t lane = n % kPanelOutputs;
    const int64_t groups = (weight_.columns + target_.group - 1) / target_.group;
    const int64_t place = (panel * groups + k / target_.group) * kPanelOutputs + lane;
    target_.scales[place] = choice.scale;
    Put(target_.zeros[place / per_word], lane % per_word, choice.zero);
    uint32_t* words = target_.words + panel * (weight_.columns / per_word) * kPanelOutputs + lane;
    for (size_t i = 0; i < codes_.size(); ++i) {
      const int64_t input = k + static_cast<int64_t>(i);
      Put(words[input / per_word * kPanelOutputs], input % per_word, codes_[i]);
    }
  }

  /// Fields are written in ascending order; the first one clears the word.
  void Put(uint32_t& word, int64_t field, float code) const {
    const uint32_t bits = static_cast<uint32_t>(code) << (bits_ * static_cast<int>(field));
    word = field == 0 ? bits : word | bits;
  }

  const StoredMatrix& weight_;
  const QuantiseTarget& target_;
  int bits_;
  std::vector<float> values_;
  std::vector<float> codes_;
};

}  // namespace

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

QuantiseLoss Quantise(const StoredMatrix& weight, const QuantiseTarget& target, ThreadPool& pool) {
  const int64_t panels = weight.rows / kPanelOutputs;
  std::vector<QuantiseLoss> losses(static_cast<size_t>(panels));
  pool.ParallelFor(panels, 1, [&](int64_t begin, int64_t end, int) {
    Quantiser quantiser(weight, target);
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
