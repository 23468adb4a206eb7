#pragma once

#include "kernels/cuda/device.cuh"

namespace xcomposer::cuda {

// Eight neighbouring numbers as float32, whatever they are stored in; on 16 bytes.

template <typename T>
XCOMPOSER_DEVICE void LoadEight(const T* p, float (&out)[8]) {
  Unpack<T>(LoadVector(p), out);
}
XCOMPOSER_DEVICE void LoadEight(const float* p, float (&out)[8]) {
  const Vector16 low = LoadVector(p);
  const Vector16 high = LoadVector(p + 4);
  XCOMPOSER_UNROLL
  for (int i = 0; i < 4; ++i) {
    out[i] = FloatOf(low.words[i]);
    out[i + 4] = FloatOf(high.words[i]);
  }
}

template <typename T>
XCOMPOSER_DEVICE void StoreEight(T* p, const float (&in)[8]) {
  StoreVector(p, PackVector<T>(in));
}
XCOMPOSER_DEVICE void StoreEight(float* p, const float (&in)[8]) {
  Vector16 low;
  Vector16 high;
  XCOMPOSER_UNROLL
  for (int i = 0; i < 4; ++i) {
    low.words[i] = BitsOf(in[i]);
    high.words[i] = BitsOf(in[i + 4]);
  }
  StoreVector(p, low);
  StoreVector(p + 4, high);
}

}  // namespace xcomposer::cuda
