#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Sum of value(vector, count) over a row, `count` numbers of which are real. Four interleaved
/// sums.
template <typename S, typename Value>
inline float SumOver(const float* x, int64_t columns, const Value& value) {
  using F = typename S::F;
  F sums[4] = {S::Zero(), S::Zero(), S::Zero(), S::Zero()};
  int64_t c = 0;
  for (; c + 4 * S::kWidth <= columns; c += 4 * S::kWidth) {
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) sums[i] = S::Add(sums[i], value(S::Load(x + c + i * S::kWidth)));
  }
  for (; c + S::kWidth <= columns; c += S::kWidth) {
    sums[0] = S::Add(sums[0], value(S::Load(x + c)));
  }
  if (c < columns) {
    float rest[S::kWidth] = {};
    S::StoreN(rest, value(S::LoadN(x + c, columns - c)), columns - c);
    sums[1] = S::Add(sums[1], S::Load(rest));
  }
  return S::Sum(S::Add(S::Add(sums[0], sums[1]), S::Add(sums[2], sums[3])));
}

/// Calls body(c, n) for the vectors of a row; n = S::kWidth but for the last one.
template <typename S, typename Body>
inline void ForVectors(int64_t columns, const Body& body) {
  int64_t c = 0;
  for (; c + S::kWidth <= columns; c += S::kWidth) body(c, S::kWidth);
  if (c < columns) body(c, columns - c);
}

template <typename S>
inline typename S::F LoadUpTo(const float* p, int64_t n) {
  return n == S::kWidth ? S::Load(p) : S::LoadN(p, n);
}

template <typename S>
inline void StoreUpTo(float* p, typename S::F f, int64_t n) {
  if (n == S::kWidth) {
    S::Store(p, f);
  } else {
    S::StoreN(p, f, n);
  }
}

template <typename S>
void RmsNormRows(const NormKernelArgs& args, int64_t begin, int64_t end) {
  using F = typename S::F;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.columns;
    float* out = args.out + row * args.columns;
    const float squares = SumOver<S>(x, args.columns, [](F f) { return S::Mul(f, f); });
    const float mean = squares / static_cast<float>(args.columns);
    const F factor = S::Set(1.0f / __builtin_sqrtf(mean + args.eps));
    ForVectors<S>(args.columns, [&](int64_t c, int64_t n) {
      // The normalised value first, then the weight: the reference's order of rounding.
      const F normal = S::Mul(LoadUpTo<S>(x + c, n), factor);
      StoreUpTo<S>(out + c, S::Mul(normal, LoadUpTo<S>(args.weight + c, n)), n);
    });
  }
}

template <typename S>
void LayerNormRows(const NormKernelArgs& args, int64_t begin, int64_t end) {
  using F = typename S::F;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.columns;
    float* out = args.out + row * args.columns;
    const float columns = static_cast<float>(args.columns);
    const F mean = S::Set(SumOver<S>(x, args.columns, [](F f) { return f; }) / columns);
    const float variance = SumOver<S>(x, args.columns,
                                      [mean](F f) {
                                        const F d = S::Sub(f, mean);
                                        return S::Mul(d, d);
                                      }) /
                           columns;
    const F factor = S::Set(1.0f / __builtin_sqrtf(variance + args.eps));
    ForVectors<S>(args.columns, [&](int64_t c, int64_t n) {
      const F normal = S::Mul(S::Sub(LoadUpTo<S>(x + c, n), mean), factor);
      const F scaled = S::Mul(normal, LoadUpTo<S>(args.weight + c, n));
      StoreUpTo<S>(out + c, S::Add(scaled, LoadUpTo<S>(args.bias + c, n)), n);
    });
  }
}

}  // namespace xcomposer::cpu
