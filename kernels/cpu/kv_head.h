#pragma once

#include "kernels/cpu/kv_format.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Where a key of a sequence lies.
struct KeySlot {
  int64_t block;  ///< physical
  int64_t place;  ///< in the block
};

/// Divided in 32 bits, which many processors do several times faster than in 64.
XCOMPOSER_INLINE KeySlot SlotOf(const int32_t* blocks, int64_t block_size, int64_t key) {
  const auto place = static_cast<uint32_t>(key);
  const auto size = static_cast<uint32_t>(block_size);
  return {blocks[place / size], place % size};
}

/// Reads numbers of one group of a head in a cache, widened. `head` is where the head's numbers
/// begin, places count from there.
template <typename S, KvFormat format>
class KvGroup;

template <typename S>
class KvGroup<S, KvFormat::kFloat32> {
 public:
  KvGroup(const char* head, int64_t, int64_t) : head_(head) {}

  typename S::F Load(int64_t d) const { return S::Load(Place(d)); }
  /// The first n of them; the rest is zero.
  typename S::F LoadN(int64_t d, int64_t n) const { return S::LoadN(Place(d), n); }

 private:
  const float* Place(int64_t d) const { return reinterpret_cast<const float*>(head_) + d; }

  const char* head_;
};

template <typename S>
class KvGroup<S, KvFormat::kInt8> {
 public:
  KvGroup(const char* head, int64_t head_dim, int64_t group) : head_(head) {
    const char* place = head + KvGroups(head_dim) * kKvGroup + group * int64_t{sizeof(uint16_t)};
    scale_ = S::Set(Widen<S, Format::kBfloat16>(reinterpret_cast<const uint16_t*>(place)));
  }

  typename S::F Load(int64_t d) const {
    return S::Mul(scale_, S::SignedBytes(reinterpret_cast<const int8_t*>(head_) + d));
  }
  typename S::F LoadN(int64_t d, int64_t) const { return Load(d); }  // what fills up is zero

 private:
  const char* head_;
  typename S::F scale_;
};

/// All numbers of a head as floats.
template <typename S, KvFormat format>
inline void WidenKvHead(const char* head, int64_t head_dim, float* out) {
  for (int64_t first = 0; first < head_dim; first += kKvGroup) {
    const KvGroup<S, format> group(head, head_dim, first / kKvGroup);
    const int64_t end = first + kKvGroup < head_dim ? first + kKvGroup : head_dim;
    int64_t d = first;
    for (; d + S::kWidth <= end; d += S::kWidth) S::Store(out + d, group.Load(d));
    if (d < end) S::StoreN(out + d, group.LoadN(d, end - d), end - d);
  }
}

}  // namespace xcomposer::cpu
