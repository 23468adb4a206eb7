#pragma once

#include "kernels/cuda/attention_prefill_tile.cuh"
#include "kernels/cuda/device_hopper.cuh"

namespace xcomposer::cuda {

// Where a tile of keys and values lies, and how a warpgroup brings it to shared memory. Each of its
// threads knows the place of one key of the tile; each warp copies its own 32 of them.

constexpr int kWarpgroupKeys = 128;
static_assert(kWarpgroupKeys == kWarpgroup);

/// Keys in blocks of any size; the table's entry of a tile is on its way while the tile before it
/// is copied. Places past the last key are those of another key of the sequence, which gets no
/// weight there.
template <int kDim>
class PagedKeys {
 public:
  using Params = PrefillAttentionParams;

  /// `thread`: of the warpgroup.
  XCOMPOSER_DEVICE PagedKeys(const PrefillLaunch<Params>& launch, const PrefillTile& tile,
                             int first_head, int thread)
      : launch_(launch),
        head_(first_head /
              static_cast<int>(launch.problem.shape.heads / launch.problem.shape.kv_heads) *
              (kDim / 8)),
        left_(tile.keys - thread) {
    const PagedCache& cache = launch.problem.cache;
    entry_ = tile.sequence * static_cast<int>(cache.table_stride);
    block_ = Load(cache.block_tables + entry_);
    entry_ += thread / Size();
    within_ = thread % Size();
    Fetch();
  }

  XCOMPOSER_DEVICE const Vector16* Keys() const {
    return static_cast<const Vector16*>(launch_.problem.cache.keys) + head_;
  }
  XCOMPOSER_DEVICE const Vector16* Values() const {
    return static_cast<const Vector16*>(launch_.problem.cache.values) + head_;
  }
  /// Vectors between places.
  XCOMPOSER_DEVICE uint32_t Stride() const {
    return static_cast<uint32_t>(launch_.problem.shape.kv_heads) * (kDim / 8);
  }

  /// The place of this thread's key in the next tile.
  XCOMPOSER_DEVICE uint32_t Next() {
    const int place = block_ * Size() + (left_ > 0 ? within_ : 0);
    left_ -= kWarpgroupKeys;
    entry_ += launch_.step_blocks;
    within_ += launch_.step_keys;
    if (within_ >= Size()) {
      within_ -= Size();
      ++entry_;
    }
    Fetch();
    return static_cast<uint32_t>(place);
  }

 private:
  XCOMPOSER_DEVICE int Size() const { return static_cast<int>(launch_.problem.cache.block_size); }
  XCOMPOSER_DEVICE void Fetch() {
    if (left_ > 0) block_ = Load(launch_.problem.cache.block_tables + entry_);
  }

  const PrefillLaunch<Params>& launch_;
  int head_;    // vectors before the head's in a place
  int left_;    // keys from this thread's next one to the last
  int entry_;   // of the tables, for that key
  int within_;  // the block, likewise
  int block_;   // of that key, or past the last key another one of the sequence
};

/// Keys of a view, in order; past the last one the last one.
template <int kDim>
class ViewKeys {
 public:
  using Params = VisionAttentionParams;

  XCOMPOSER_DEVICE ViewKeys(const PrefillLaunch<Params>& launch, const PrefillTile& tile, int head,
                            int thread)
      : launch_(launch),
        first_((tile.sequence * launch.problem.rows * launch.problem.stride + head * kDim) / 8),
        key_(thread),
        last_(tile.keys - 1) {}

  XCOMPOSER_DEVICE const Vector16* Keys() const {
    return static_cast<const Vector16*>(launch_.problem.k) + first_;
  }
  XCOMPOSER_DEVICE const Vector16* Values() const {
    return static_cast<const Vector16*>(launch_.problem.v) + first_;
  }
  XCOMPOSER_DEVICE uint32_t Stride() const {
    return static_cast<uint32_t>(launch_.problem.stride / 8);
  }
  XCOMPOSER_DEVICE uint32_t Next() {
    const int place = Min(key_, last_);
    key_ += kWarpgroupKeys;
    return static_cast<uint32_t>(place);
  }

 private:
  const PrefillLaunch<Params>& launch_;
  int64_t first_;  // vector of the view's keys, for this head
  int key_;
  int last_;
};

/// A place in the ring of tiles, and the parity of the phase in which it is filled.
template <int kSlots>
struct RingPlace {
  int slot = 0;
  int parity = 0;

  XCOMPOSER_DEVICE void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// Fills the ring: keys of tile 0, then of each tile and the values of the one before it, in the
/// order in which they are used; last the values of the last one. Called by a whole warpgroup.
template <typename T, typename Shape>
class KeyProducer {
 public:
  static constexpr int kParts = Shape::kDim / 8;
  static constexpr int kPass = 32 / kParts;  ///< keys that a warp copies at a time
  static constexpr int kTile = kWarpgroupKeys * Shape::kDim;

  XCOMPOSER_DEVICE KeyProducer(const Shared<T>& ring, const Shared<uint64_t>& full,
                               const Shared<uint64_t>& empty)
      : ring_(ring), full_(full), empty_(empty) {}

  template <typename Keys>
  XCOMPOSER_DEVICE void Run(Keys& source, int tiles) {
    const Vector16* keys = source.Keys() + Lane() % kParts;
    const Vector16* values = source.Values() + Lane() % kParts;
    const uint32_t stride = source.Stride();
    uint32_t place = source.Next();
    Copy(keys, stride, place);
    for (int tile = 1; tile < tiles; ++tile) {
      const uint32_t next = source.Next();
      Copy(keys, stride, next);
      Copy(values, stride, place);
      place = next;
    }
    Copy(values, stride, place);
  }

 private:
  /// Copies to the next place, as soon as it is free. `place`: of this lane's key.
  XCOMPOSER_DEVICE void Copy(const Vector16* from, uint32_t stride, uint32_t place) {
    BarrierWait(empty_, filling_.slot, filling_.parity ^ 1);  // what was there has been used
    const Shared<T> to = ring_.Part(filling_.slot * kTile, kTile);
    // Passes change the low bits of a key that this lane's own leave alone.
    const int first =
        PanelIndex<kWarpgroupKeys>(Warp() % 4 * 32 + Lane() / kParts, Lane() % kParts);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 32 / kPass; ++i) {
      const uint32_t at = ShuffleFrom(place, i * kPass + Lane() / kParts) * stride;
      CopyAsync16(to, (first ^ i * kPass % 8 * 8) + i * kPass * 64,
                  reinterpret_cast<const T*>(from + at), true);
    }
    BarrierArriveAfterCopies(full_, filling_.slot);
    filling_.Next();
  }

  Shared<T> ring_;
  Shared<uint64_t> full_;
  Shared<uint64_t> empty_;
  RingPlace<Shape::kSlots> filling_;
};

}  // namespace xcomposer::cuda
