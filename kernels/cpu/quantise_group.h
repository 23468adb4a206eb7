#pragma once

#include "kernels/cpu/group_choice.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// How a group of weights is rounded (quantise.h). The sums over a group are taken in sixteen lanes
// whatever the vectors, and without fused products, so that every instruction set chooses the same
// codes.

/// Values of a group are filled up to a multiple of so many with zeros, which are codes without an
/// error.
inline constexpr int64_t kQuantisedLanes = 16;

inline constexpr int kShrinkSteps = 8;
inline constexpr float kShrinkStep = 0.04f;

template <typename S>
inline constexpr int kLaneVectors = static_cast<int>(kQuantisedLanes / S::kWidth);

/// op(op(lane 0, lane 8, ...), ...) of the lanes that these vectors are.
template <typename S, typename Op>
XCOMPOSER_INLINE float Reduced(const typename S::F (&vectors)[kLaneVectors<S>], const Op& op) {
  float lanes[kQuantisedLanes];
  XCOMPOSER_UNROLL
  for (int v = 0; v < kLaneVectors<S>; ++v) S::Store(lanes + v * S::kWidth, vectors[v]);
  for (int64_t half = kQuantisedLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] = op(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

template <typename S>
XCOMPOSER_INLINE float SumOfLanes(const typename S::F (&sums)[kLaneVectors<S>]) {
  return Reduced<S>(sums, [](float a, float b) { return a + b; });
}

/// Values of one group, and the codes that are tried on them.
template <typename S>
class Group {
 public:
  Group(const float* values, int64_t count, float most)
      : values_(values), count_(count), most_(most) {}

  struct Range {
    float low = 0;
    float high = 0;
  };
  /// Of the values and zero.
  Range Extent() const {
    F low[kVectors];
    F high[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) low[v] = high[v] = S::Zero();
    ForEach([&](int64_t i, int v) {
      low[v] = S::Min(low[v], S::Load(values_ + i));
      high[v] = S::Max(high[v], S::Load(values_ + i));
    });
    return {Reduced<S>(low, [](float a, float b) { return a < b ? a : b; }),
            Reduced<S>(high, [](float a, float b) { return a > b ? a : b; })};
  }

  /// The squared error of the codes for a scale and a zero, which are written unless `codes` is
  /// null.
  template <bool kWrites>
  float Encode(uint16_t stored_scale, float zero, float* codes) const {
    const float scale = Widen<S, Format::kFloat16>(&stored_scale);
    const F inverses = S::Set(1.0f / scale);
    const F scales = S::Set(scale);
    const F zeros = S::Set(zero);
    const F most = S::Set(most_);
    F errors[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) errors[v] = S::Zero();
    ForEach([&](int64_t i, int v) {
      const F value = S::Load(values_ + i);
      // The clamp comes first: a value far outside of the range must stay below 2^22.
      const F place = S::Add(S::Mul(value, inverses), zeros);
      const F code = S::Round(S::Min(S::Max(place, S::Zero()), most));
      const F off = S::Sub(value, S::Mul(scales, S::Sub(code, zeros)));
      errors[v] = S::Add(errors[v], S::Mul(off, off));
      if constexpr (kWrites) S::Store(codes + i, code);
    });
    return SumOfLanes<S>(errors);
  }

  /// The scale that fits the codes best; 0 where there is none.
  float FittedScale(const float* codes, float zero) const {
    const F zeros = S::Set(zero);
    F products[kVectors];
    F squares[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) products[v] = squares[v] = S::Zero();
    ForEach([&](int64_t i, int v) {
      const F step = S::Sub(S::Load(codes + i), zeros);
      products[v] = S::Add(products[v], S::Mul(step, S::Load(values_ + i)));
      squares[v] = S::Add(squares[v], S::Mul(step, step));
    });
    const float all = SumOfLanes<S>(squares);
    return all > 0 ? SumOfLanes<S>(products) / all : 0.0f;
  }

 private:
  using F = typename S::F;
  static constexpr int kVectors = kLaneVectors<S>;

  template <typename Body>
  XCOMPOSER_INLINE void ForEach(const Body& body) const {
    for (int64_t i = 0; i < count_; i += kQuantisedLanes) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) body(i + v * S::kWidth, v);
    }
  }

  const float* values_;
  int64_t count_;
  float most_;
};

template <typename S>
GroupChoice ChooseGroup8(const float* values, int64_t count, float* codes) {
  const Group<S> group(values, count, 255);
  const auto range = group.Extent();
  const float largest = -range.low > range.high ? -range.low : range.high;
  GroupChoice choice{.scale = ScaleOf(largest / 127), .zero = 128};
  const bool less = Widen<S, Format::kFloat16>(&choice.scale) * 127 < largest;
  if (less && choice.scale < kLargestFloat16) ++choice.scale;
  choice.error = group.template Encode<true>(choice.scale, choice.zero, codes);
  return choice;
}

template <typename S>
GroupChoice ChooseGroup4(const float* values, int64_t count, float* codes) {
  const Group<S> group(values, count, 15);
  const auto [low, high] = group.Extent();
  GroupChoice best;
  const auto consider = [&](uint16_t scale, float zero) {
    const float error = group.template Encode<false>(scale, zero, nullptr);
    if (best.zero > 0 && error >= best.error) return;
    best = {.scale = scale, .zero = zero, .error = error};
  };
  for (int step = 0; step < kShrinkSteps; ++step) {
    const float shrink = 1 - kShrinkStep * static_cast<float>(step);
    const uint16_t scale = ScaleOf(shrink * (high - low) / 15);
    const float place = -shrink * low / Widen<S, Format::kFloat16>(&scale);
    float zero[S::kWidth];
    S::Store(zero, S::Round(S::Min(S::Max(S::Set(place), S::Set(1)), S::Set(15))));
    consider(scale, zero[0]);
  }
  group.template Encode<true>(best.scale, best.zero, codes);
  const float fitted = group.FittedScale(codes, best.zero);
  const GroupChoice unfitted = best;
  if (fitted > 0) consider(ScaleOf(fitted), best.zero);
  if (best.scale != unfitted.scale) group.template Encode<true>(best.scale, best.zero, codes);
  return best;
}

}  // namespace xcomposer::cpu
