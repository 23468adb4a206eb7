#pragma once

#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// e^x to about one unit in the last place: 0 below -87.3 (where float leaves its normal range),
/// infinity from 88.4 on, NaN for NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), where p is the polynomial of degree
/// 4 that makes the greatest relative error of e^r least (3e-9).
template <typename S>
inline typename S::F Exp(typename S::F x) {
  using F = typename S::F;
  const F lowest = S::Set(-87.3f);
  // The operand order keeps NaN (simd.h).
  const F clamped = S::Min(S::Set(89.0f), S::Max(lowest, x));
  const F n = S::Round(S::Mul(clamped, S::Set(1.44269504f)));
  // ln 2 in two parts; n times the first is exact.
  F r = S::Fma(n, S::Set(-0.693359375f), clamped);
  r = S::Fma(n, S::Set(2.12194440e-4f), r);
  F p = S::Set(0.0013814532f);
  p = S::Fma(p, r, S::Set(0.0083687454f));
  p = S::Fma(p, r, S::Set(0.041668393f));
  p = S::Fma(p, r, S::Set(0.16666521f));
  p = S::Fma(p, r, S::Set(0.49999994f));
  const F small = S::Add(S::Fma(S::Mul(r, r), p, r), S::Set(1.0f));
  return S::Less(x, lowest, S::Zero(), S::Mul(small, S::PowerOfTwo(n)));
}

/// 1 / (1 + e^-x).
template <typename S>
inline typename S::F Sigmoid(typename S::F x) {
  const typename S::F one = S::Set(1.0f);
  return S::Div(one, S::Add(one, Exp<S>(S::Sub(S::Zero(), x))));
}

}  // namespace xcomposer::cpu
