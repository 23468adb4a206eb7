#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/number.h"

#define XCOMPOSER_DEVICE __device__ __forceinline__
#define XCOMPOSER_UNROLL _Pragma("unroll")

namespace xcomposer::cuda {

// --- who am I
// --------------------------------------------------------------------------------------
XCOMPOSER_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
XCOMPOSER_DEVICE int BlockThreads() { return static_cast<int>(blockDim.x); }
XCOMPOSER_DEVICE int Lane() { return static_cast<int>(threadIdx.x) & 31; }
XCOMPOSER_DEVICE int Warp() { return static_cast<int>(threadIdx.x) >> 5; }
XCOMPOSER_DEVICE int BlockX() { return static_cast<int>(blockIdx.x); }
XCOMPOSER_DEVICE int BlockY() { return static_cast<int>(blockIdx.y); }
XCOMPOSER_DEVICE int BlockZ() { return static_cast<int>(blockIdx.z); }
XCOMPOSER_DEVICE int GridX() { return static_cast<int>(gridDim.x); }

// --- order
// -----------------------------------------------------------------------------------------
/// All threads of the block: what any wrote before, all may read after.
XCOMPOSER_DEVICE void SyncThreads() { __syncthreads(); }
/// The same for the 32 threads of a warp.
XCOMPOSER_DEVICE void SyncWarp() { __syncwarp(); }
/// Writes before it are seen by other blocks before writes after it.
XCOMPOSER_DEVICE void ThreadFence() { __threadfence(); }

/// Programmatic dependent launch: returns when the kernel before has ended and its writes are
/// visible. What is not written by any kernel (weights) may be read before. Every thread calls it.
XCOMPOSER_DEVICE void GridDependencyWait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel's blocks start as soon as there is room for them.
XCOMPOSER_DEVICE void GridDependencyLaunch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// --- warps: called by all 32 lanes
// -------------------------------------------------------------------
template <typename V>
XCOMPOSER_DEVICE V ShuffleXor(V value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
template <typename V>
XCOMPOSER_DEVICE V ShuffleFrom(V value, int source) {
  return __shfl_sync(0xFFFFFFFFu, value, source);
}

// --- global memory
// ---------------------------------------------------------------------------------
template <typename V>
XCOMPOSER_DEVICE V Load(const V* p) {
  return *p;
}
template <typename V>
XCOMPOSER_DEVICE void Store(V* p, V value) {
  *p = value;
}
XCOMPOSER_DEVICE Vector16 LoadVector(const void* p) {
  const uint4 v = *static_cast<const uint4*>(p);
  return {{v.x, v.y, v.z, v.w}};
}
/// For what no kernel writes, but the host did before the step: tables. May be read before
/// GridDependencyWait.
template <typename V>
XCOMPOSER_DEVICE V LoadSettled(const V* p) {
  return *p;
}
/// Asks for 128 bytes to be brought to the level-2 cache, which sees every kernel's writes: right at
/// any time.
XCOMPOSER_DEVICE void PrefetchL2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
/// For what is read once and written by no kernel: weights. Takes no place in L1.
XCOMPOSER_DEVICE Vector16 LoadStream(const void* p) {
  Vector16 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.words[0]), "=r"(v.words[1]), "=r"(v.words[2]), "=r"(v.words[3])
               : "l"(p));
  return v;
}
XCOMPOSER_DEVICE void StoreVector(void* p, Vector16 v) {
  *static_cast<uint4*>(p) = make_uint4(v.words[0], v.words[1], v.words[2], v.words[3]);
}
XCOMPOSER_DEVICE int AtomicAdd(int* p, int value) { return atomicAdd(p, value); }
/// Adds to a counter that is read when the kernel has ended: announces nothing.
XCOMPOSER_DEVICE void AtomicCount(uint64_t* p, uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(value));
}
/// Counts what was done: writes before it, and those that a barrier put before it, are seen by the
/// threads of other blocks that find this count and do the same, and by those that a barrier lets
/// follow them.
XCOMPOSER_DEVICE int AtomicAddOrdered(int* p, int value) {
  int old;
  asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(p), "r"(value)
               : "memory");
  return old;
}

// --- shared memory
// ---------------------------------------------------------------------------------
template <typename V>
class Shared {
 public:
  XCOMPOSER_DEVICE explicit Shared(unsigned char* data) : data_(reinterpret_cast<V*>(data)) {}
  XCOMPOSER_DEVICE V& operator[](int index) const { return data_[index]; }
  XCOMPOSER_DEVICE V* At(int index) const { return data_ + index; }
  XCOMPOSER_DEVICE Shared Part(int first, int) const {
    return Shared(reinterpret_cast<unsigned char*>(data_ + first));
  }

 private:
  V* data_;
};

/// Deals out the block's dynamic shared memory, in the same order in every thread.
class SharedArena {
 public:
  template <typename V>
  XCOMPOSER_DEVICE Shared<V> Take(int count) {
    extern __shared__ __align__(16) unsigned char xcomposer_shared[];
    Shared<V> taken(xcomposer_shared + used_);
    used_ += (count * static_cast<int>(sizeof(V)) + 15) / 16 * 16;
    return taken;
  }

 private:
  int used_ = 0;
};

template <typename V>
XCOMPOSER_DEVICE Vector16 LoadVector(const Shared<V>& shared, int index) {
  const uint4 v = *reinterpret_cast<const uint4*>(shared.At(index));
  return {{v.x, v.y, v.z, v.w}};
}
template <typename V>
XCOMPOSER_DEVICE void StoreVector(const Shared<V>& shared, int index, Vector16 v) {
  *reinterpret_cast<uint4*>(shared.At(index)) =
      make_uint4(v.words[0], v.words[1], v.words[2], v.words[3]);
}
template <typename V>
XCOMPOSER_DEVICE V AtomicAdd(const Shared<V>& shared, int index, V value) {
  return atomicAdd(shared.At(index), value);
}
template <>
XCOMPOSER_DEVICE uint64_t AtomicAdd(const Shared<uint64_t>& shared, int index, uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  return atomicAdd(reinterpret_cast<unsigned long long*>(shared.At(index)),
                   static_cast<unsigned long long>(value));
}

template <typename V>
XCOMPOSER_DEVICE uint32_t SharedAddress(const Shared<V>& shared, int index) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared.At(index)));
}

/// Copies 16 bytes past the registers, or writes zeros if not valid; complete after WaitCopies, and
/// for other threads after a barrier that follows it.
template <typename V>
XCOMPOSER_DEVICE void CopyAsync16(const Shared<V>& shared, int index, const V* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared, index)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
/// Makes one group of the copies since the last call.
XCOMPOSER_DEVICE void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all groups of this thread but the newest kPending.
template <int kPending>
XCOMPOSER_DEVICE void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// --- tensor cores: called by all 32 lanes
// ------------------------------------------------------------
/// ldmatrix.x4: four 8x8 matrices. Lane l names the row l % 8 of matrix l / 8 and receives of each
/// matrix the elements (l / 4, 2 (l % 4)) and its right neighbour.
template <typename T>
XCOMPOSER_DEVICE void LoadMatrices(uint32_t (&out)[4], const Shared<T>& shared, int index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(shared, index))
               : "memory");
}
/// The same of the transposed matrices: elements (2 (l % 4), l / 4) and its lower neighbour.
template <typename T>
XCOMPOSER_DEVICE void LoadMatricesTransposed(uint32_t (&out)[4], const Shared<T>& shared,
                                             int index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(shared, index))
               : "memory");
}

/// mma.sync m16n8k16: d (16 x 8) += a (16 x 16) b (16 x 8), sums in float32. With g = lane / 4 and
/// t = lane % 4, the lane holds of a: rows g, g + 8, g, g + 8, columns 2t and 2t + 1 (a[0], a[1]),
/// 8 more (a[2], a[3]); of b: column g, rows 2t and 2t + 1 (b0), 8 more (b1); of d: row g (d[0],
/// d[1]) and g + 8 (d[2], d[3]), columns 2t and 2t + 1.
template <typename T>
XCOMPOSER_DEVICE void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
XCOMPOSER_DEVICE void MultiplyAdd<Half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                        uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
XCOMPOSER_DEVICE void MultiplyAdd<BFloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- numbers
// ---------------------------------------------------------------------------------------
/// 2^x, error of 2 units in the last place.
XCOMPOSER_DEVICE float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
XCOMPOSER_DEVICE float Exp(float x) { return expf(x); }
XCOMPOSER_DEVICE float Cos(float x) { return cosf(x); }
XCOMPOSER_DEVICE float Sin(float x) { return sinf(x); }
XCOMPOSER_DEVICE float Erf(float x) { return erff(x); }
XCOMPOSER_DEVICE float ReciprocalRoot(float x) { return 1.0f / sqrtf(x); }
XCOMPOSER_DEVICE uint32_t BitsOf(float x) { return __float_as_uint(x); }
XCOMPOSER_DEVICE float FloatOf(uint32_t bits) { return __uint_as_float(bits); }
XCOMPOSER_DEVICE uint32_t MultiplyHigh(uint32_t a, uint32_t b) { return __umulhi(a, b); }

XCOMPOSER_DEVICE float ToFloat(float x) { return x; }
XCOMPOSER_DEVICE float ToFloat(Half x) { return __half2float(__ushort_as_half(x.bits)); }
XCOMPOSER_DEVICE float ToFloat(BFloat16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }

template <typename T>
XCOMPOSER_DEVICE T FromFloat(float x);
template <>
XCOMPOSER_DEVICE float FromFloat<float>(float x) {
  return x;
}
template <>
XCOMPOSER_DEVICE Half FromFloat<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}
template <>
XCOMPOSER_DEVICE BFloat16 FromFloat<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

}  // namespace xcomposer::cuda
