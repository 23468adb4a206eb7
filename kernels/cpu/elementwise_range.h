#pragma once

#include "kernels/cpu/exponential.h"
#include "kernels/cpu/norm_rows.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

template <typename S>
void QuickGeluRange(float* x, int64_t count) {
  using F = typename S::F;
  ForVectors<S>(count, [x](int64_t c, int64_t n) {
    const F value = LoadUpTo<S>(x + c, n);
    StoreUpTo<S>(x + c, S::Mul(value, Sigmoid<S>(S::Mul(value, S::Set(1.702f)))), n);
  });
}

template <typename S>
void SiluMulRange(float* gate, const float* up, int64_t count) {
  using F = typename S::F;
  ForVectors<S>(count, [gate, up](int64_t c, int64_t n) {
    const F value = LoadUpTo<S>(gate + c, n);
    const F silu = S::Mul(value, Sigmoid<S>(value));
    StoreUpTo<S>(gate + c, S::Mul(silu, LoadUpTo<S>(up + c, n)), n);
  });
}

template <typename S>
void AddRange(float* y, const float* x, int64_t count) {
  ForVectors<S>(count, [y, x](int64_t c, int64_t n) {
    StoreUpTo<S>(y + c, S::Add(LoadUpTo<S>(y + c, n), LoadUpTo<S>(x + c, n)), n);
  });
}

template <typename S, Format format>
void WidenRange(const void* stored, float* out, int64_t count) {
  const auto* in = static_cast<const typename ElementOf<format>::Type*>(stored);
  ForVectors<S>(count, [in, out](int64_t c, int64_t n) {
    if (n == S::kWidth) {
      S::Store(out + c, S::template LoadAs<format>(in + c));
    } else {
      S::StoreN(out + c, S::template LoadAsN<format>(in + c, n), n);
    }
  });
}

/// out = (x low half * cos - x high half * sin, x high half * cos + x low half * sin); each product
/// and each sum rounded on its own, as the reference does.
template <typename S>
void RotateHead(const float* x, const float* cos, const float* sin, int64_t half, float* out) {
  using F = typename S::F;
  ForVectors<S>(half, [=](int64_t c, int64_t n) {
    const F low = LoadUpTo<S>(x + c, n);
    const F high = LoadUpTo<S>(x + half + c, n);
    const F cosine = LoadUpTo<S>(cos + c, n);
    const F sine = LoadUpTo<S>(sin + c, n);
    StoreUpTo<S>(out + c, S::Sub(S::Mul(low, cosine), S::Mul(high, sine)), n);
    StoreUpTo<S>(out + half + c, S::Add(S::Mul(high, cosine), S::Mul(low, sine)), n);
  });
}

}  // namespace xcomposer::cpu
