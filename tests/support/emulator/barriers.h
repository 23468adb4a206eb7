#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "support/emulator/clocks.h"
#include "support/emulator/memory.h"

namespace xcomposer::emulator {

/// The barriers of a block that are not for all of its threads: mbarriers in shared memory, and
/// named ones. A wait that cannot return yet is the caller's to repeat when it is told to.
class Barriers {
 public:
  explicit Barriers(Clocks& clocks) : clocks_(clocks) {}

  void Reset();

  void Init(const void* barrier, int arrivals, const Access& access);
  /// Barriers that the thread made may be used for bulk copies.
  void Announce(int thread);
  /// Threads that may go on.
  std::vector<int> Arrive(const void* barrier, const Access& access);
  /// Bytes that the phase waits for too, and those that a bulk copy is going to bring.
  void Expect(const void* barrier, int64_t bytes, const Access& access);
  void BeginCopy(const void* barrier, int64_t bytes, const Access& access);
  /// Whether nothing but the copies under way is missing, and what is to be done when they have
  /// arrived.
  bool IsForCopies(const void* barrier, const Access& access);
  bool IsAwaited(const void* barrier, const Access& access);
  std::vector<int> EndCopies(const void* barrier, const Access& access);
  /// Whether the phase of this parity has ended; otherwise the thread is remembered.
  bool Wait(const void* barrier, int parity, const Access& access);
  /// How many phases have ended.
  uint32_t Phase(const void* barrier, const Access& access) { return Find(barrier, access).phase; }

  /// Threads that may go on; the barrier is free for its next use then.
  std::vector<int> ArriveNamed(int barrier, int threads, bool waits, const Access& access);

  /// Throws Fault if a named barrier has arrivals that nobody waited for.
  void CheckEnd() const;

 private:
  struct Phased {
    Access made;
    int arrivals = 0;
    int left = 0;
    int64_t expected = 0;  ///< bytes
    int64_t copied = 0;    ///< bytes of copies under way
    bool announced = false;
    uint32_t phase = 0;
    Knowledge gathered;  ///< of those that have arrived in this phase
    Knowledge told;      ///< of all phases that have ended
    std::vector<int> waiting;
  };
  struct Named {
    int threads = 0;  ///< 0: free
    int arrived = 0;
    Knowledge gathered;
    std::vector<int> waiting;
  };

  Phased& Find(const void* barrier, const Access& access);
  static std::vector<int> End(Phased& b);

  Clocks& clocks_;
  std::map<const void*, Phased> phased_;
  std::array<Named, 16> named_;
};

}  // namespace xcomposer::emulator
