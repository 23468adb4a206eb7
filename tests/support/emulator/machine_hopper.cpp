#include <cstring>

#include "support/emulator/machine.h"

namespace xcomposer::emulator {

uint32_t Machine::SharedAddress(const void* p) {
  return kSharedBase + static_cast<uint32_t>(static_cast<const unsigned char*>(p) - shared_.data());
}

void Machine::Release(const std::vector<int>& threads) {
  for (const int t : threads) threads_[static_cast<size_t>(t)].wait = Wait::kNone;
}

void Machine::BarrierInit(const void* barrier, int arrivals, Site site) {
  clocks_.Start(thread_count_);
  barriers_.Init(barrier, arrivals, Now(site));
}

void Machine::BarrierArrive(const void* barrier, Site site) {
  CountAccess(site);
  clocks_.Start(thread_count_);
  Release(barriers_.Arrive(barrier, Now(site)));
}

void Machine::BarrierArriveAfterCopies(const void* barrier, Site site) {
  clocks_.Start(thread_count_);
  Thread& thread = threads_[static_cast<size_t>(current_)];
  Followed followed{barriers_.Phase(barrier, Now(site)), {}};
  const auto follow = [&](Copies& copies) {
    std::erase_if(copies, [](const std::shared_ptr<Copy>& copy) { return copy->arrived; });
    for (const std::shared_ptr<Copy>& copy : copies) {
      if (!copy->followed) copy->access = Now(site);
      copy->followed = true;
      followed.copies.push_back(copy);
    }
  };
  for (Copies& group : thread.groups) follow(group);
  follow(thread.open_copies);
  followed_[barrier].push_back(std::move(followed));
  BarrierArrive(barrier, site);
}

void Machine::DeliverFollowed(const void* barrier, Site site) {
  const auto found = followed_.find(barrier);
  if (found == followed_.end()) return;
  const uint32_t phase = barriers_.Phase(barrier, Now(site));
  std::erase_if(found->second, [this, phase](const Followed& followed) {
    if (followed.phase >= phase) return false;
    for (const std::shared_ptr<Copy>& copy : followed.copies) Bring(*copy, copy->access);
    return true;
  });
}

void Machine::BarrierWait(const void* barrier, int parity, Site site) {
  clocks_.Start(thread_count_);
  if (barriers_.IsForCopies(barrier, Now(site))) Deliver(barrier, site);
  while (!barriers_.Wait(barrier, parity, Now(site))) Block(Wait::kBarrier, site);
  DeliverFollowed(barrier, site);
}

void Machine::BarriersReady() { barriers_.Announce(current_); }

void Machine::BarrierArriveExpecting(const void* barrier, int bytes, Site site) {
  CountAccess(site);
  clocks_.Start(thread_count_);
  barriers_.Expect(barrier, bytes, Now(site));
  Release(barriers_.Arrive(barrier, Now(site)));
}

void Machine::CopyBulk(void* shared, const void* global, int bytes, const void* barrier,
                       Site site) {
  constexpr size_t kUnit = 16;
  const auto count = static_cast<size_t>(bytes);
  if (bytes <= 0 || count % kUnit != 0 || reinterpret_cast<uintptr_t>(global) % kUnit != 0) {
    throw Fault("bulk copy of " + std::to_string(bytes) +
                " bytes, or from an address, that is no multiple of 16, by " + Describe(Now(site)));
  }
  auto* to = static_cast<unsigned char*>(shared);
  const auto* from = static_cast<const unsigned char*>(global);
  clocks_.Start(thread_count_);
  Copy copy;
  copy.target = shared;
  copy.access = Now(site);
  copy.access.bulk = true;
  for (size_t i = 0; i < count; i += kUnit) {
    GlobalRead(from + i, kUnit, site);
    CountAccess(site);
    shared_.CheckBulk(to + i, clocks_.Of(current_), copy.access);
    products_.CheckWrite(SharedAddress(to + i), copy.access);
  }
  copy.bytes.assign(from, from + count);
  std::memset(shared, 0xFF, count);  // NaN until it has arrived
  bulk_copies_[barrier].push_back(std::move(copy));
  barriers_.BeginCopy(barrier, bytes, Now(site));
  if (barriers_.IsForCopies(barrier, Now(site)) && barriers_.IsAwaited(barrier, Now(site))) {
    Deliver(barrier, site);
  }
}

void Machine::Deliver(const void* barrier, Site site) {
  for (Copy& copy : bulk_copies_[barrier]) Bring(copy, copy.access);
  bulk_copies_.erase(barrier);
  Release(barriers_.EndCopies(barrier, Now(site)));
}

void Machine::NamedBarrier(int barrier, int threads, bool waits, Site site) {
  clocks_.Start(thread_count_);
  threads_[static_cast<size_t>(current_)].wait = waits ? Wait::kBarrier : Wait::kNone;
  threads_[static_cast<size_t>(current_)].site = site;
  Release(barriers_.ArriveNamed(barrier, threads, waits, Now(site)));
  Thread& self = threads_[static_cast<size_t>(current_)];
  if (self.wait == Wait::kBarrier) self.fiber->Leave();
}

void Machine::ProductFence() {
  clocks_.Start(thread_count_);
  clocks_.FenceProducts(current_);
}

void Machine::WaitProducts(int pending, Site site) {
  clocks_.Start(thread_count_);
  // By reference: what a function keeps on the heap is lost where a fault ends the block's fibers.
  const struct {
    int pending;
    Site site;
  } wait{pending, site};
  WarpCollective(
      nullptr,
      [this, &wait](std::array<void*, kWarp>&) {
        const int first = current_ / kWarp * kWarp;
        for (int t = first; t < first + kWarp; ++t) products_.Wait(t, wait.pending, Now(wait.site));
      },
      site);
}

void Machine::BeginProduct(Site site) {
  CountAccess(site);
  clocks_.Start(thread_count_);
  const int first = current_ / (4 * kWarp) * (4 * kWarp);
  for (int t = first; t < first + 4 * kWarp; ++t) products_.CheckFenced(t, Now(site));
  common_ = clocks_.Common(first, 4 * kWarp);
}

const unsigned char* Machine::ProductRead(uint32_t address, Site site) {
  if (address < kSharedBase) {
    throw Fault("out of bounds: product of a warpgroup reads before shared memory, by " +
                Describe(Now(site)));
  }
  const size_t offset = address - kSharedBase;
  shared_.CheckProduct(offset, common_, Now(site));
  const int first = current_ / (4 * kWarp) * (4 * kWarp);
  for (int warp = 0; warp < 4; ++warp) products_.BookRead(first + warp * kWarp, address);
  return shared_.data() + offset;
}

const float* Machine::ProductSums(int thread, const float* d) const {
  return products_.Sums(current_ / (4 * kWarp) * (4 * kWarp) + thread, d);
}

void Machine::GiveProduct(int thread, float* d, const std::vector<float>& sums) {
  products_.Begin(current_ / (4 * kWarp) * (4 * kWarp) + thread, d, sums);
}

}  // namespace xcomposer::emulator
