#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// One row of x, or a few that stay in the first cache, on processors that fetch one long stream
// faster than several. Rows of the weight come one after another, and what comes two pages later is
// asked for meanwhile. Loads lie on whole lines, two of which are joined where the weight does not
// begin with a line, as in a file: loads across two lines cost a third of the speed. The order of
// the sums is that of linear_rows.h.

/// Most inputs of a row. Measured: 8,192 of one row are as fast in several streams.
inline constexpr int64_t kStreamInputs = 4096;
/// Most rows of x.
inline constexpr int kStreamRows = 4;
/// Bytes between what is worked on and what is asked for, at least.
inline constexpr int64_t kStreamAhead = 8192;

/// Whether rows of x are so few and so short. Measured: with a third of the first cache left to the
/// weight one stream is faster than several, with none up to 2.8 times slower.
XCOMPOSER_INLINE bool IsOneStream(const LinearKernelArgs& args) {
  const int64_t bytes = args.rows * args.depth * static_cast<int64_t>(sizeof(float));
  return args.rows <= kStreamRows && args.depth <= kStreamInputs && bytes <= args.one_stream_x;
}

/// y of one output and row from its sum.
XCOMPOSER_INLINE void FinishSum(const LinearKernelArgs& args, int64_t row, int64_t n, float sum) {
  float* y = args.y + row * args.y_stride + n;
  const float bias = args.bias != nullptr ? args.bias[n] : 0.0f;
  const float value = args.scale * sum + bias;
  *y = args.accumulate ? *y + value : value;
}

/// Whether weights are read by whole lines: with registers of that size, and 16-bit numbers.
/// OneStream is for those alone.
template <typename S, Format format>
inline constexpr bool kReadsLines = format != Format::kFloat32&& S::kJoinsLines;

template <typename S, Format format, int kRows>
class OneStream {
 public:
  static_assert(kReadsLines<S, format>);

  explicit OneStream(const LinearKernelArgs& args)
      : args_(args),
        ahead_((kStreamAhead / SizeOf(format) + args.depth - 1) / args.depth * args.weight_stride) {
  }

  /// Outputs [begin, end).
  void Run(int64_t begin, int64_t end) const {
    for (int64_t n = begin; n < end; ++n) {
      F sums[kRows];
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) sums[t] = S::Zero();
      AddRow(static_cast<const Element*>(args_.weight) + n * args_.weight_stride, sums);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) FinishSum(args_, t, n, S::Sum(sums[t]));
    }
  }

 private:
  using F = typename S::F;
  using W = typename S::W;
  using Element = typename ElementOf<format>::Type;
  static constexpr int64_t kStep = 2 * S::kWidth;
  static_assert(kStep * SizeOf(format) == 64);  // a line

  /// Adds the products of one row of the weight, lane by lane.
  XCOMPOSER_INLINE void AddRow(const Element* weight, F (&sums)[kRows]) const {
    const float* x = args_.packed_x;
    const int64_t steps = args_.depth / kStep;
    const char* ahead = reinterpret_cast<const char*>(weight + ahead_);
    const auto shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(weight) % 64);
    if (shift % 4 == 0 && steps > 0) {
      AddLines(reinterpret_cast<const char*>(weight) - shift, shift, x, steps, ahead, sums);
    } else {
      for (int64_t i = 0; i < steps; ++i) {
        S::Prefetch(ahead + i * 64);
        AddStep(S::template LoadFirst<format>(weight + i * kStep),
                S::template LoadSecond<format>(weight + i * kStep), x + i * kRows * kStep, sums);
      }
    }
    const int64_t left = args_.depth % kStep;
    if (left == 0) return;
    Element rest[kStep] = {};
    std::memcpy(rest, weight + steps * kStep, static_cast<size_t>(left) * sizeof(Element));
    AddStep(S::template LoadFirst<format>(rest), S::template LoadSecond<format>(rest),
            x + steps * kRows * kStep, sums);
  }

  static XCOMPOSER_INLINE void AddStep(F first, F second, const float* x, F (&sums)[kRows]) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) sums[t] = S::Fma(first, S::Load(x + t * kStep), sums[t]);
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      sums[t] = S::Fma(second, S::Load(x + t * kStep + S::kWidth), sums[t]);
    }
  }

  /// `steps` lines of weights that begin `shift` bytes after a line does.
  static XCOMPOSER_INLINE void AddLines(const char* line, int64_t shift, const float* x,
                                        int64_t steps, const char* ahead, F (&sums)[kRows]) {
    const W places = S::JoinPlaces(shift);
    W now = S::LoadLinePart(line, shift, 64);
    const auto add = [&](W next) __attribute__((always_inline)) {
      const W joined = S::KeepWords(S::JoinLines(now, places, next));
      AddStep(S::template First<format>(joined), S::template Second<format>(joined), x, sums);
      x += kRows * kStep;
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
  }

  const LinearKernelArgs& args_;
  int64_t ahead_;  ///< numbers, in whole rows
};

/// For args.rows <= kRows that are known only now.
template <typename S, Format format, int kRows>
inline void RunOneStream(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return RunOneStream<S, format, kRows - 1>(args, n_begin, n_end);
  }
  OneStream<S, format, kRows>(args).Run(n_begin, n_end);
}

}  // namespace xcomposer::cpu
