#include "support/emulator/barriers.h"

#include <utility>

namespace xcomposer::emulator {

void Barriers::Reset() {
  phased_.clear();
  named_ = {};
}

void Barriers::Init(const void* barrier, int arrivals, const Access& access) {
  if (arrivals <= 0) throw Fault("barrier of no arrivals by " + Describe(access));
  Phased made;
  made.made = access;
  made.arrivals = made.left = arrivals;
  phased_[barrier] = std::move(made);
}

Barriers::Phased& Barriers::Find(const void* barrier, const Access& access) {
  const auto found = phased_.find(barrier);
  if (found == phased_.end()) {
    throw Fault("use of a barrier that nobody made by " + Describe(access));
  }
  if (!OrderedAfter(found->second.made, access)) {
    throw Fault("use of a barrier by " + Describe(access) +
                ", which need not see yet that it was made");
  }
  return found->second;
}

void Barriers::Announce(int thread) {
  for (auto& [barrier, b] : phased_) {
    if (b.made.thread == thread) b.announced = true;
  }
}

std::vector<int> Barriers::End(Phased& b) {
  b.left = b.arrivals;
  b.expected = b.copied = 0;
  ++b.phase;
  b.told.Add(std::exchange(b.gathered, {}));
  return std::exchange(b.waiting, {});
}

std::vector<int> Barriers::Arrive(const void* barrier, const Access& access) {
  Phased& b = Find(barrier, access);
  clocks_.Tell(access.thread, b.gathered);
  if (--b.left < 0) {
    throw Fault("more arrivals than a barrier's phase has, by " + Describe(access));
  }
  return b.left > 0 || b.expected > 0 ? std::vector<int>{} : End(b);
}

void Barriers::Expect(const void* barrier, int64_t bytes, const Access& access) {
  Find(barrier, access).expected += bytes;
}

void Barriers::BeginCopy(const void* barrier, int64_t bytes, const Access& access) {
  Phased& b = Find(barrier, access);
  if (!b.announced) {
    throw Fault("bulk copy by " + Describe(access) + " to a barrier that was not announced");
  }
  b.copied += bytes;
  if (b.copied > b.expected) {
    throw Fault("bulk copies of " + std::to_string(b.copied) + " bytes to a barrier that expects " +
                std::to_string(b.expected) + ", by " + Describe(access));
  }
  clocks_.Tell(access.thread, b.gathered);
}

bool Barriers::IsForCopies(const void* barrier, const Access& access) {
  const Phased& b = Find(barrier, access);
  return b.left == 0 && b.expected > 0 && b.copied == b.expected;
}

bool Barriers::IsAwaited(const void* barrier, const Access& access) {
  return !Find(barrier, access).waiting.empty();
}

std::vector<int> Barriers::EndCopies(const void* barrier, const Access& access) {
  return End(Find(barrier, access));
}

bool Barriers::Wait(const void* barrier, int parity, const Access& access) {
  if (parity != 0 && parity != 1) throw Fault("parity other than 0 and 1 by " + Describe(access));
  Phased& b = Find(barrier, access);
  if (static_cast<int>(b.phase % 2) == parity) {
    b.waiting.push_back(access.thread);
    return false;
  }
  clocks_.Learn(access.thread, b.told);
  return true;
}

std::vector<int> Barriers::ArriveNamed(int barrier, int threads, bool waits, const Access& access) {
  if (barrier < 1 || barrier > 15 || threads <= 0 || threads % 32 != 0) {
    throw Fault("no such named barrier: " + std::to_string(barrier) + " of " +
                std::to_string(threads) + " threads, by " + Describe(access));
  }
  Named& b = named_[static_cast<size_t>(barrier)];
  if (b.threads != 0 && b.threads != threads) {
    throw Fault("named barrier of " + std::to_string(b.threads) + " threads taken for one of " +
                std::to_string(threads) + " by " + Describe(access));
  }
  b.threads = threads;
  clocks_.Tell(access.thread, b.gathered);
  if (waits) b.waiting.push_back(access.thread);
  if (++b.arrived < threads) return {};
  for (const int t : b.waiting) clocks_.Learn(t, b.gathered);
  return std::exchange(b, {}).waiting;
}

void Barriers::CheckEnd() const {
  for (size_t i = 0; i < named_.size(); ++i) {
    if (named_[i].threads != 0) {
      throw Fault("the block ended with arrivals at named barrier " + std::to_string(i) +
                  " that nobody waited for");
    }
  }
}

}  // namespace xcomposer::emulator
