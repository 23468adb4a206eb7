#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "kernels/cuda/number.h"
#include "support/emulator/machine.h"

// The emulated twin of kernels/cuda/device_gpu.cuh: the same names, for g++. See that file for what
// each function means.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define XCOMPOSER_DEVICE inline
#define XCOMPOSER_UNROLL

namespace xcomposer::cuda {

using Where = std::source_location;

inline emulator::Site SiteOf(const Where& where) { return {where.file_name(), where.line()}; }
inline emulator::Machine& Gpu() { return emulator::Machine::Instance(); }

// --- who am I
// --------------------------------------------------------------------------------------
inline int ThreadIndex() { return Gpu().thread(); }
inline int BlockThreads() { return Gpu().config().threads; }
inline int Lane() { return Gpu().thread() % 32; }
inline int Warp() { return Gpu().thread() / 32; }
inline int BlockX() { return static_cast<int>(Gpu().block().x); }
inline int BlockY() { return static_cast<int>(Gpu().block().y); }
inline int BlockZ() { return static_cast<int>(Gpu().block().z); }
inline int GridX() { return static_cast<int>(Gpu().config().grid.x); }

// --- order
// -----------------------------------------------------------------------------------------
inline void SyncThreads(Where where = Where::current()) { Gpu().SyncThreads(SiteOf(where)); }
inline void SyncWarp(Where where = Where::current()) { Gpu().SyncWarp(SiteOf(where)); }
inline void ThreadFence() { Gpu().ThreadFence(); }
inline void GridDependencyWait() { Gpu().GridDependencyWait(); }
inline void GridDependencyLaunch() {}

// --- warps
// -----------------------------------------------------------------------------------------
template <typename V>
V ShuffleXor(V value, int mask, Where where = Where::current()) {
  Gpu().WarpCollective(
      &value,
      [mask](std::array<void*, 32>& operands) {
        std::array<V, 32> values{};
        for (size_t l = 0; l < 32; ++l) values[l] = *static_cast<V*>(operands[l]);
        for (size_t l = 0; l < 32; ++l) {
          *static_cast<V*>(operands[l]) = values[l ^ static_cast<size_t>(mask)];
        }
      },
      SiteOf(where));
  return value;
}

/// The value of lane `source`, which every lane names for itself.
template <typename V>
V ShuffleFrom(V value, int source, Where where = Where::current()) {
  struct Operand {
    V value;
    int source;
  } operand{value, source};
  Gpu().WarpCollective(
      &operand,
      [](std::array<void*, 32>& operands) {
        std::array<V, 32> values{};
        for (size_t l = 0; l < 32; ++l) values[l] = static_cast<Operand*>(operands[l])->value;
        for (void* p : operands) {
          auto* o = static_cast<Operand*>(p);
          o->value = values.at(static_cast<size_t>(o->source));
        }
      },
      SiteOf(where));
  return operand.value;
}

// --- global memory
// ---------------------------------------------------------------------------------
template <typename V>
V Load(const V* p, Where where = Where::current()) {
  Gpu().GlobalRead(p, sizeof(V), SiteOf(where));
  return *p;
}

template <typename V>
V LoadSettled(const V* p, Where where = Where::current()) {
  Gpu().GlobalReadSettled(p, sizeof(V), SiteOf(where));
  return *p;
}
inline void PrefetchL2(const void* p, Where where = Where::current()) {
  Gpu().GlobalPrefetch(p, SiteOf(where));
}

template <typename V>
void Store(V* p, V value, Where where = Where::current()) {
  Gpu().GlobalWrite(p, sizeof(V), SiteOf(where));
  *p = value;
}

inline Vector16 LoadVector(const void* p, Where where = Where::current()) {
  Gpu().GlobalRead(p, 16, SiteOf(where));
  Vector16 v;
  std::memcpy(&v, p, 16);
  return v;
}
inline Vector16 LoadStream(const void* p, Where where = Where::current()) {
  return LoadVector(p, where);
}
inline void StoreVector(void* p, Vector16 v, Where where = Where::current()) {
  Gpu().GlobalWrite(p, 16, SiteOf(where));
  std::memcpy(p, &v, 16);
}
inline int AtomicAdd(int* p, int value, Where where = Where::current()) {
  Gpu().Atomic(SiteOf(where));
  Gpu().GlobalWrite(p, sizeof(int), SiteOf(where), /*atomic=*/true);
  const int old = *p;
  *p += value;
  return old;
}
inline void AtomicCount(uint64_t* p, uint64_t value, Where where = Where::current()) {
  Gpu().GlobalWrite(p, sizeof(uint64_t), SiteOf(where), /*atomic=*/true);
  *p += value;
}
inline int AtomicAddOrdered(int* p, int value, Where where = Where::current()) {
  ThreadFence();
  const int old = AtomicAdd(p, value, where);
  ThreadFence();
  return old;
}

// --- shared memory
// ---------------------------------------------------------------------------------
template <typename V>
class SharedReference {
 public:
  SharedReference(V* p, emulator::Site site) : p_(p), site_(site) {}
  operator V() const {
    Gpu().SharedAccess(p_, sizeof(V), emulator::AccessKind::kRead, site_);
    return *p_;
  }
  const SharedReference& operator=(V value) const {
    Gpu().SharedAccess(p_, sizeof(V), emulator::AccessKind::kWrite, site_);
    *p_ = value;
    return *this;
  }
  const SharedReference& operator=(const SharedReference& other) const {
    return *this = static_cast<V>(other);
  }

 private:
  V* p_;
  emulator::Site site_;
};

/// An index that remembers where in the kernel it was written.
struct SharedIndex {
  SharedIndex(int index, Where where = Where::current()) : value(index), where(where) {}
  int value;
  Where where;
};

template <typename V>
class Shared {
 public:
  Shared(unsigned char* data, int count) : data_(reinterpret_cast<V*>(data)), count_(count) {}
  SharedReference<V> operator[](SharedIndex index) const {
    return {At(index.value, index.where), SiteOf(index.where)};
  }
  V* At(int index, Where where = Where::current()) const {
    if (index < 0 || index >= count_) {
      throw emulator::Fault("out of bounds: index " + std::to_string(index) +
                            " of a shared array of " + std::to_string(count_) + " by " +
                            emulator::Describe(Gpu().Now(SiteOf(where))));
    }
    return data_ + index;
  }
  Shared Part(int first, int count, Where where = Where::current()) const {
    if (first < 0 || count < 0 || first + count > count_) {
      throw emulator::Fault("out of bounds: part of a shared array by " +
                            emulator::Describe(Gpu().Now(SiteOf(where))));
    }
    return Shared(reinterpret_cast<unsigned char*>(data_ + first), count);
  }

 private:
  V* data_;
  int count_;
};

class SharedArena {
 public:
  template <typename V>
  Shared<V> Take(int count, Where where = Where::current()) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(V) + 15) / 16 * 16;
    if (used_ + bytes > Gpu().shared().size()) {
      throw emulator::Fault("the launch gives too little shared memory, at " +
                            ToString(SiteOf(where)));
    }
    Shared<V> taken(Gpu().shared().data() + used_, count);
    used_ += bytes;
    return taken;
  }

 private:
  size_t used_ = 0;
};

template <typename V>
Vector16 LoadVector(const Shared<V>& shared, int index, Where where = Where::current()) {
  const V* p = shared.At(index, where);
  Gpu().SharedAccess(p, 16, emulator::AccessKind::kRead, SiteOf(where));
  Vector16 v;
  std::memcpy(&v, p, 16);
  return v;
}

template <typename V>
void StoreVector(const Shared<V>& shared, int index, Vector16 v, Where where = Where::current()) {
  V* p = shared.At(index, where);
  Gpu().SharedAccess(p, 16, emulator::AccessKind::kWrite, SiteOf(where));
  std::memcpy(p, &v, 16);
}

template <typename V>
V AtomicAdd(const Shared<V>& shared, int index, V value, Where where = Where::current()) {
  V* p = shared.At(index, where);
  Gpu().SharedAccess(p, sizeof(V), emulator::AccessKind::kAtomic, SiteOf(where));
  const V old = *p;
  *p = static_cast<V>(old + value);
  return old;
}

template <typename V>
void CopyAsync16(const Shared<V>& shared, int index, const V* global, bool valid,
                 Where where = Where::current()) {
  Gpu().CopyAsync(shared.At(index, where), global, 16, valid, SiteOf(where));
}
inline void CommitCopies() { Gpu().CommitCopies(); }
template <int kPending>
void WaitCopies(Where where = Where::current()) {
  Gpu().WaitCopies(kPending, SiteOf(where));
}

// --- tensor cores
// ----------------------------------------------------------------------------------
template <typename T>
void LoadMatrices(uint32_t (&out)[4], const Shared<T>& shared, int index,
                  Where where = Where::current());
template <typename T>
void LoadMatricesTransposed(uint32_t (&out)[4], const Shared<T>& shared, int index,
                            Where where = Where::current());
template <typename T>
void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                 Where where = Where::current());

// --- numbers
// ---------------------------------------------------------------------------------------
inline float Exp2(float x) { return std::exp2(x); }
inline float Exp(float x) { return std::exp(x); }
inline float Cos(float x) { return std::cos(x); }
inline float Sin(float x) { return std::sin(x); }
inline float Erf(float x) { return std::erf(x); }
inline float ReciprocalRoot(float x) { return 1.0f / std::sqrt(x); }
inline uint32_t BitsOf(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float FloatOf(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t MultiplyHigh(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}
template <typename T>
float ToFloat(T x) {
  return Widen(x);
}
template <typename T>
T FromFloat(float x) {
  return Narrow<T>(x);
}

}  // namespace xcomposer::cuda

#include "support/emulator/tensor_core.h"
