#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// One row of x, where the processor fetches one long stream faster than several: rows of the weight
// one after another, and what comes two pages later asked for meanwhile. That holds while x stays
// in the first cache. Loads lie on whole lines, two of which are joined where the weight does not
// begin with a line, as in a file: loads across two lines cost a third of the speed. The order of
// the sums is that of linear_rows.h.

/// Most inputs of a row.
inline constexpr int64_t kRunInputs = 4096;
/// Bytes between what is worked on and what is asked for, at least.
inline constexpr int64_t kRunAhead = 8192;

/// y of one output and row from its sum.
XCOMPOSER_INLINE void FinishSum(const LinearKernelArgs& args, int64_t row, int64_t n, float sum) {
  float* y = args.y + row * args.y_stride + n;
  const float bias = args.bias != nullptr ? args.bias[n] : 0.0f;
  const float value = args.scale * sum + bias;
  *y = args.accumulate ? *y + value : value;
}

/// Whether weights are read by whole lines: with registers of that size, and 16-bit numbers. OneRow
/// is for those alone.
template <typename S, Format format>
inline constexpr bool kReadsLines = format != Format::kFloat32&& S::kJoinsLines;

template <typename S, Format format>
class OneRow {
 public:
  static_assert(kReadsLines<S, format>);

  explicit OneRow(const LinearKernelArgs& args)
      : args_(args),
        ahead_((kRunAhead / SizeOf(format) + args.depth - 1) / args.depth * args.weight_stride) {}

  /// Outputs [begin, end).
  void Run(int64_t begin, int64_t end) const {
    for (int64_t n = begin; n < end; ++n) {
      const auto* weight = static_cast<const Element*>(args_.weight) + n * args_.weight_stride;
      FinishSum(args_, 0, n, S::Sum(SumOf(weight)));
    }
  }

 private:
  using F = typename S::F;
  using W = typename S::W;
  using Element = typename ElementOf<format>::Type;
  static constexpr int64_t kStep = 2 * S::kWidth;
  static_assert(kStep * SizeOf(format) == 64);  // a line

  /// The sums of one row of the weight, lane by lane.
  F SumOf(const Element* weight) const {
    const float* x = args_.packed_x;
    const int64_t steps = args_.depth / kStep;
    const char* ahead = reinterpret_cast<const char*>(weight + ahead_);
    const auto shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(weight) % 64);
    F sum = S::Zero();
    if (shift % 4 == 0 && steps > 0) {
      sum = AddLines(reinterpret_cast<const char*>(weight) - shift, shift, x, steps, ahead);
    } else {
      for (int64_t i = 0; i < steps; ++i) {
        S::Prefetch(ahead + i * 64);
        sum = AddStep(weight + i * kStep, x + i * kStep, sum);
      }
    }
    const int64_t left = args_.depth % kStep;
    if (left == 0) return sum;
    Element rest[kStep] = {};
    std::memcpy(rest, weight + steps * kStep, static_cast<size_t>(left) * sizeof(Element));
    return AddStep(rest, x + steps * kStep, sum);
  }

  static XCOMPOSER_INLINE F AddStep(const Element* weight, const float* x, F sum) {
    sum = S::Fma(S::template LoadFirst<format>(weight), S::Load(x), sum);
    return S::Fma(S::template LoadSecond<format>(weight), S::Load(x + S::kWidth), sum);
  }

  /// `steps` lines of weights that begin `shift` bytes after a line does.
  static XCOMPOSER_INLINE F AddLines(const char* line, int64_t shift, const float* x, int64_t steps,
                                     const char* ahead) {
    F sum = S::Zero();
    const W places = S::JoinPlaces(shift);
    W now = S::LoadLinePart(line, shift, 64);
    const auto add = [&](W next) __attribute__((always_inline)) {
      const W joined = S::KeepWords(S::JoinLines(now, places, next));
      sum = S::Fma(S::template First<format>(joined), S::Load(x), sum);
      sum = S::Fma(S::template Second<format>(joined), S::Load(x + S::kWidth), sum);
      x += kStep;
      now = next;
    };
    for (int64_t i = 1; i < steps; ++i) {
      S::Prefetch(ahead);
      ahead += 64;
      line += 64;
      add(S::LoadLine(line));
    }
    S::Prefetch(ahead);
    // Of the last line, only what belongs to the row may be read.
    add(S::LoadLinePart(line + 64, 0, shift));
    return sum;
  }

  const LinearKernelArgs& args_;
  int64_t ahead_;  ///< numbers, in whole rows
};

}  // namespace xcomposer::cpu
