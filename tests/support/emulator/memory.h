#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/emulator/clocks.h"
#include "support/emulator/fault.h"

namespace xcomposer::emulator {

/// Who touches memory, and when.
struct Access {
  uint32_t launch = 0;
  uint32_t block = 0;  ///< unique over all launches
  int16_t thread = 0;
  int16_t warp = 0;
  uint32_t block_epoch = 0;          ///< grows at each barrier of the block; unique over all blocks
  uint32_t warp_epoch = 0;           ///< grows at each SyncWarp of the warp
  bool waited = true;                ///< GridDependencyWait was called, or need not be
  bool acquired = false;             ///< an atomic operation and a fence came before
  bool bulk = false;                 ///< by a copy in bulk, which belongs to the async proxy
  uint32_t moment = Clocks::kFirst;  ///< of the thread
  const uint32_t* seen = nullptr;    ///< what it has seen of the block's threads; null: no clocks
  Site site;
};

std::string Describe(const Access& access);

/// Whether a barrier, or an atomic operation with fences, lets `access` come after `earlier`.
bool OrderedAfter(const Access& earlier, const Access& access);

/// The threads that last wrote and read a piece of memory; finds unordered accesses.
struct Shadow {
  Access writer;
  bool written = false;
  bool atomic = false;       ///< the last write was an atomic operation
  bool pending = false;      ///< an asynchronous copy into it has not been waited for
  int16_t reader = -1;       ///< -2: several threads
  int16_t reader_warp = -1;  ///< -2: several warps
  uint32_t read_block_epoch = 0;
  uint32_t read_warp_epoch = 0;
  uint32_t read_moment = Clocks::kNever;  ///< of the only reader
};

/// kPending: an asynchronous copy that begins; kArrived: what it brought is there.
enum class AccessKind { kRead, kWrite, kAtomic, kPending, kArrived };

/// Throws Fault if the access and an earlier one of another thread are not ordered by a barrier;
/// otherwise remembers it.
void CheckOrder(Shadow& shadow, const Access& access, AccessKind kind, const char* what);

/// Global memory: every access must lie inside one allocation, and be aligned to its size.
class GlobalMemory {
 public:
  /// Zero-length allocations are allowed. Memory is filled with ones: NaN in every float format.
  void* Allocate(size_t bytes, bool constant);
  void Free(void* data);

  void CheckRead(const void* p, size_t bytes, const Access& access);
  /// A read that may come before GridDependencyWait: of what no kernel has ever written.
  void CheckSettled(const void* p, size_t bytes, const Access& access);
  /// Touches nothing, but what lies in no allocation was surely not meant.
  void CheckPrefetch(const void* p, Access access);
  void CheckWrite(void* p, size_t bytes, const Access& access, bool atomic = false);

 private:
  struct Allocation {
    std::unique_ptr<unsigned char[]> owner;
    uintptr_t begin = 0;
    uintptr_t end = 0;
    bool constant = false;       ///< no kernel writes it: may be read before GridDependencyWait
    std::vector<Shadow> shadow;  ///< of each 2 bytes; made at the first access
  };

  static void MakeShadow(Allocation& allocation);
  Allocation& Find(const void* p, size_t bytes, const Access& access, const char* what);

  std::map<uintptr_t, Allocation> allocations_;  // by begin
  Allocation* last_ = nullptr;
};

/// Shared memory of one block.
class SharedMemory {
 public:
  /// Forgets everything and fills with NaN.
  void Reset(size_t bytes);

  unsigned char* data() { return memory_.data() + kGuard; }
  const unsigned char* data() const { return memory_.data() + kGuard; }
  size_t size() const { return size_; }

  void Check(const void* p, size_t bytes, const Access& access, AccessKind kind);
  /// A read of 16 bytes by products of threads that have this in common.
  void CheckProduct(size_t offset, const Knowledge& common, const Access& access) const;
  /// 16 bytes of a copy in bulk that a thread with this knowledge begins. Threads' own accesses
  /// belong to another proxy: a ProductFence must have come after what they wrote there.
  void CheckBulk(const void* p, const Knowledge& known, const Access& access);

 private:
  static constexpr size_t kGuard = 64;

  /// Index of the shadow of the first of `bytes` at `p`.
  size_t Find(const void* p, size_t bytes, const Access& access) const;

  std::vector<unsigned char> memory_;
  std::vector<Shadow> shadow_;  // of each 2 bytes
  size_t size_ = 0;
};

}  // namespace xcomposer::emulator
