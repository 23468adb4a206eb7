#include "support/emulator/memory.h"

#include <cstring>

namespace xcomposer::emulator {
namespace {

constexpr size_t kGranule = 2;      // bytes of the smallest number that kernels store
constexpr size_t kAlignment = 256;  // of cudaMalloc

[[noreturn]] void Race(const Shadow& shadow, const Access& access, const char* kind,
                       const char* what) {
  throw Fault(std::string("race in ") + what + ": " + kind + ", thread " +
              std::to_string(access.thread) + " at " + ToString(access.site) +
              "; last write by thread " + std::to_string(shadow.writer.thread) + " at " +
              ToString(shadow.writer.site) + "; no barrier orders them");
}

bool OrderedAfterWrite(const Shadow& shadow, const Access& access) {
  return OrderedAfter(shadow.writer, access);
}

bool Saw(const Access& access, int thread, uint32_t moment) {
  return access.seen != nullptr && access.seen[thread] >= moment;
}

bool OrderedAfterReads(const Shadow& shadow, const Access& access) {
  if (shadow.reader == -1 || shadow.reader == access.thread) return true;
  if (shadow.read_block_epoch < access.block_epoch) return true;
  if (shadow.reader >= 0 && Saw(access, shadow.reader, shadow.read_moment)) return true;
  return shadow.reader_warp == access.warp && shadow.read_warp_epoch < access.warp_epoch;
}

void RememberRead(Shadow& shadow, const Access& access) {
  if (shadow.reader == -1 || shadow.read_block_epoch != access.block_epoch) {
    shadow.reader = access.thread;
    shadow.reader_warp = access.warp;
  } else {
    if (shadow.reader != access.thread) shadow.reader = -2;
    if (shadow.reader_warp != access.warp) shadow.reader_warp = -2;
  }
  shadow.read_block_epoch = access.block_epoch;
  shadow.read_warp_epoch = access.warp_epoch;
  shadow.read_moment = access.moment;
}

void RequireFence(const Shadow& shadow, const Knowledge& known, const Access& access,
                  const char* what, const char* how) {
  const Access& writer = shadow.writer;
  if (known.fenced[static_cast<size_t>(writer.thread)] >= writer.moment) return;
  throw Fault(what + Describe(access) + how + " what thread " + std::to_string(writer.thread) +
              " wrote at " + ToString(writer.site) + ": no ProductFence came between");
}

}  // namespace

std::string Describe(const Access& access) {
  return "thread " + std::to_string(access.thread) + " at " + ToString(access.site);
}

bool OrderedAfter(const Access& earlier, const Access& access) {
  if (earlier.launch != access.launch) return true;
  if (earlier.block != access.block) return access.acquired;
  if (earlier.thread == access.thread || earlier.block_epoch < access.block_epoch) return true;
  if (Saw(access, earlier.thread, earlier.moment)) return true;
  return earlier.warp == access.warp && earlier.warp_epoch < access.warp_epoch;
}

void CheckOrder(Shadow& shadow, const Access& access, AccessKind kind, const char* what) {
  if (shadow.pending && kind != AccessKind::kArrived) {
    Race(shadow, access, "access to the target of an asynchronous copy not yet waited for", what);
  }
  const bool both_atomic = kind == AccessKind::kAtomic && shadow.atomic;
  if (shadow.written && !both_atomic && !OrderedAfterWrite(shadow, access)) {
    Race(shadow, access, kind == AccessKind::kRead ? "read after write" : "write after write",
         what);
  }
  if (kind == AccessKind::kRead) {
    RememberRead(shadow, access);
    return;
  }
  if (!OrderedAfterReads(shadow, access)) Race(shadow, access, "write after read", what);
  shadow.writer = access;
  shadow.written = true;
  shadow.atomic = kind == AccessKind::kAtomic;
  shadow.pending = kind == AccessKind::kPending;
  shadow.reader = -1;
}

void* GlobalMemory::Allocate(size_t bytes, bool constant) {
  // An empty allocation gets an address of its own, with no byte that may be touched.
  auto owner = std::make_unique<unsigned char[]>(bytes + 2 * kAlignment);
  const uintptr_t begin =
      (reinterpret_cast<uintptr_t>(owner.get()) + kAlignment - 1) & ~uintptr_t{kAlignment - 1};
  std::memset(owner.get(), 0xFF, bytes + 2 * kAlignment);
  Allocation& made = allocations_[begin];
  made.owner = std::move(owner);
  made.begin = begin;
  made.end = begin + bytes;
  made.constant = constant;
  return reinterpret_cast<void*>(begin);
}

void GlobalMemory::Free(void* data) {
  last_ = nullptr;
  allocations_.erase(reinterpret_cast<uintptr_t>(data));
}

GlobalMemory::Allocation& GlobalMemory::Find(const void* p, size_t bytes, const Access& access,
                                             const char* what) {
  const auto begin = reinterpret_cast<uintptr_t>(p);
  if (begin % bytes != 0) {
    throw Fault(std::string("misaligned global ") + what + " of " + std::to_string(bytes) +
                " bytes by " + Describe(access));
  }
  if (last_ == nullptr || begin < last_->begin || begin >= last_->end) {
    auto after = allocations_.upper_bound(begin);
    if (after == allocations_.begin()) {
      throw Fault(std::string("out of bounds: global ") + what + " by " + Describe(access));
    }
    last_ = &std::prev(after)->second;
  }
  if (begin < last_->begin || begin + bytes > last_->end) {
    throw Fault(std::string("out of bounds: global ") + what + " of " + std::to_string(bytes) +
                " bytes, " + std::to_string(static_cast<int64_t>(begin - last_->begin)) +
                " into an allocation of " + std::to_string(last_->end - last_->begin) + ", by " +
                Describe(access));
  }
  if (!access.waited && !last_->constant) {
    throw Fault(std::string("global ") + what + " before GridDependencyWait by " +
                Describe(access) + ": the kernel before may still be writing");
  }
  return *last_;
}

void GlobalMemory::MakeShadow(Allocation& allocation) {
  if (allocation.shadow.empty()) {
    allocation.shadow.resize((allocation.end - allocation.begin + 1) / kGranule);
  }
}

void GlobalMemory::CheckRead(const void* p, size_t bytes, const Access& access) {
  Allocation& allocation = Find(p, bytes, access, "read");
  if (allocation.constant) return;
  MakeShadow(allocation);
  const size_t first = (reinterpret_cast<uintptr_t>(p) - allocation.begin) / kGranule;
  for (size_t i = first; i < first + (bytes + 1) / kGranule; ++i) {
    Shadow& shadow = allocation.shadow[i];
    if (shadow.written && !shadow.atomic && !OrderedAfterWrite(shadow, access)) {
      Race(shadow, access, "read after write", "global memory");
    }
    RememberRead(shadow, access);
  }
}

void GlobalMemory::CheckSettled(const void* p, size_t bytes, const Access& access) {
  Access any_time = access;
  any_time.waited = true;
  const Allocation& allocation = Find(p, bytes, any_time, "read");
  if (allocation.shadow.empty()) return;
  const size_t first = (reinterpret_cast<uintptr_t>(p) - allocation.begin) / kGranule;
  for (size_t i = first; i < first + (bytes + 1) / kGranule; ++i) {
    const Shadow& shadow = allocation.shadow[i];
    if (shadow.written) {
      throw Fault("read as settled by " + Describe(access) + " of what a kernel wrote at " +
                  ToString(shadow.writer.site));
    }
  }
}

void GlobalMemory::CheckPrefetch(const void* p, Access access) {
  access.waited = true;
  Find(p, 1, access, "prefetch");
}

void GlobalMemory::CheckWrite(void* p, size_t bytes, const Access& access, bool atomic) {
  Allocation& allocation = Find(p, bytes, access, "write");
  if (allocation.constant) {
    throw Fault("write to weights or other constants by " + Describe(access));
  }
  MakeShadow(allocation);
  const size_t first = (reinterpret_cast<uintptr_t>(p) - allocation.begin) / kGranule;
  for (size_t i = first; i < first + (bytes + 1) / kGranule; ++i) {
    Shadow& shadow = allocation.shadow[i];
    const bool both_atomic = atomic && shadow.atomic;
    if (shadow.written && !both_atomic && !OrderedAfterWrite(shadow, access)) {
      Race(shadow, access, "write after write", "global memory");
    }
    // Of the block's own threads: a read by another block says nothing about when it was.
    if (!OrderedAfterReads(shadow, access))
      Race(shadow, access, "write after read", "global memory");
    shadow.writer = access;
    shadow.written = true;
    shadow.atomic = atomic;
    shadow.reader = -1;
  }
}

void SharedMemory::Reset(size_t bytes) {
  size_ = bytes;
  memory_.assign(bytes + 2 * kGuard, 0xFF);
  shadow_.assign(bytes / kGranule, Shadow{});
}

size_t SharedMemory::Find(const void* p, size_t bytes, const Access& access) const {
  const auto begin = reinterpret_cast<uintptr_t>(p);
  const auto base = reinterpret_cast<uintptr_t>(data());
  if (begin % bytes != 0) throw Fault("misaligned shared access by " + Describe(access));
  if (begin < base || begin + bytes > base + size_) {
    throw Fault("out of bounds: shared access at " +
                std::to_string(static_cast<int64_t>(begin - base)) + " of " +
                std::to_string(size_) + " by " + Describe(access));
  }
  return (begin - base) / kGranule;
}

void SharedMemory::Check(const void* p, size_t bytes, const Access& access, AccessKind kind) {
  const size_t first = Find(p, bytes, access);
  for (size_t i = first; i < first + bytes / kGranule; ++i) {
    if (kind == AccessKind::kRead && !shadow_[i].written) {
      throw Fault("read of shared memory that nobody wrote by " + Describe(access));
    }
    CheckOrder(shadow_[i], access, kind, "shared memory");
  }
}

void SharedMemory::CheckProduct(size_t offset, const Knowledge& common,
                                const Access& access) const {
  if (offset + 16 > size_) {
    throw Fault("out of bounds: product of a warpgroup reads at " + std::to_string(offset) +
                " of " + std::to_string(size_) + ", by " + Describe(access));
  }
  for (size_t i = offset / kGranule; i < (offset + 16) / kGranule; ++i) {
    const Shadow& shadow = shadow_[i];
    if (!shadow.written) {
      throw Fault("read of shared memory that nobody wrote by a product of " + Describe(access));
    }
    const Access& writer = shadow.writer;
    const auto thread = static_cast<size_t>(writer.thread);
    if (shadow.pending) {
      Race(shadow, access, "product with the target of a copy not yet waited for", "shared memory");
    }
    if (writer.block_epoch >= access.block_epoch && common.seen[thread] < writer.moment) {
      Race(shadow, access, "read after write by a product", "shared memory");
    }
    RequireFence(shadow, common, access, "product of ", " need not see");
  }
}

void SharedMemory::CheckBulk(const void* p, const Knowledge& known, const Access& access) {
  const size_t first = Find(p, 16, access);
  for (size_t i = first; i < first + 16 / kGranule; ++i) {
    Shadow& shadow = shadow_[i];
    const bool by_thread = shadow.written && !shadow.writer.bulk && !shadow.pending;
    if (by_thread && OrderedAfterWrite(shadow, access)) {
      RequireFence(shadow, known, access, "bulk copy by ", " need not come after");
    }
    CheckOrder(shadow, access, AccessKind::kPending, "shared memory");
  }
}

}  // namespace xcomposer::emulator
