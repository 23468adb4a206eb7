#pragma once

// Everything a kernel asks of the machine - threads, barriers, shuffles, vector loads, asynchronous
// copies, tensor cores - goes through the functions of this header, so that the same kernel
// compiles with g++ and runs under the emulator of tests/support.
#ifdef XCOMPOSER_EMULATED_CUDA
#include "support/emulator/device.h"
#else
#include "kernels/cuda/device_gpu.cuh"
#endif

namespace xcomposer::cuda {

/// Two stored numbers in one register: the first in the low half, as tensor cores want it.
template <typename T>
XCOMPOSER_DEVICE uint32_t Pack(float low, float high) {
  return uint32_t{FromFloat<T>(low).bits} | uint32_t{FromFloat<T>(high).bits} << 16;
}

template <typename T>
XCOMPOSER_DEVICE void Unpack(uint32_t pair, float& low, float& high) {
  low = ToFloat(T{static_cast<uint16_t>(pair)});
  high = ToFloat(T{static_cast<uint16_t>(pair >> 16)});
}

template <typename T>
XCOMPOSER_DEVICE void Unpack(const Vector16& v, float (&out)[8]) {
  XCOMPOSER_UNROLL
  for (int i = 0; i < 4; ++i) Unpack<T>(v.words[i], out[2 * i], out[2 * i + 1]);
}

template <typename T>
XCOMPOSER_DEVICE Vector16 PackVector(const float (&in)[8]) {
  Vector16 v;
  XCOMPOSER_UNROLL
  for (int i = 0; i < 4; ++i) v.words[i] = Pack<T>(in[2 * i], in[2 * i + 1]);
  return v;
}

XCOMPOSER_DEVICE float Max(float a, float b) { return a > b ? a : b; }
XCOMPOSER_DEVICE int Min(int a, int b) { return a < b ? a : b; }

/// Sum over the lanes of a warp, the same in all of them: the tree is fixed, so are the bits.
template <typename V>
XCOMPOSER_DEVICE V WarpSum(V x) {
  XCOMPOSER_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) x += ShuffleXor(x, mask);
  return x;
}

/// Sum over the first `warps` warps of the block, the same in all their threads; `partial` holds
/// one number per warp, `sync()` is a barrier of theirs. May be called again with the same
/// `partial` only after another barrier.
template <typename Sync>
XCOMPOSER_DEVICE float SumOfWarps(float x, int warps, const Shared<float>& partial,
                                  const Sync& sync) {
  x = WarpSum(x);
  if (Lane() == 0) partial[Warp()] = x;
  sync();  // every warp's part is written before any thread adds them up
  float sum = 0.0f;
  for (int w = 0; w < warps; ++w) sum += partial[w];
  return sum;
}

/// The same over the whole block.
XCOMPOSER_DEVICE float BlockSum(float x, const Shared<float>& partial) {
  return SumOfWarps(x, BlockThreads() / 32, partial, [] { SyncThreads(); });
}

}  // namespace xcomposer::cuda
