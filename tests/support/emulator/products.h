#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "support/emulator/clocks.h"
#include "support/emulator/memory.h"

namespace xcomposer::emulator {

/// A matrix in shared memory as a descriptor of wgmma gives it (PTX, "Matrix Descriptor Format" and
/// "Canonical Layouts"), of numbers of 16 bits in the 128-byte swizzle, the only one known here.
class MatrixLayout {
 public:
  /// Throws Fault for what the manual forbids, and for other swizzles.
  MatrixLayout(uint64_t descriptor, const Access& access);

  /// Address of eight numbers. K-major: of row `line`, numbers 8 part to 8 part + 7 along K;
  /// MN-major: of line `line` along K, of its numbers 8 part to 8 part + 7.
  uint32_t AlongK(int line, int part) const;
  uint32_t AlongRows(int line, int part) const;

 private:
  static uint32_t Swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70); }

  uint32_t start_;
  uint32_t leading_;
  uint32_t stride_;
};

/// What products of warpgroups have in flight, and what they have read of shared memory. Sums are
/// computed when a product is begun; registers get them when it is waited for, and hold NaN until
/// then.
class Products {
 public:
  explicit Products(Clocks& clocks) : clocks_(clocks) {}

  void Reset(int threads, size_t last_address);

  void Fence(int thread) { Of(thread).fenced = true; }
  void CheckFenced(int thread, const Access& access) const;

  /// Sums that the thread's next product adds to.
  const float* Sums(int thread, const float* d) const;
  void Begin(int thread, float* d, const std::vector<float>& sums);
  void UseRegisters(int thread, const uint32_t (&a)[4]);
  /// Books a read of shared memory, of 1,024 bytes at a time, on a warp's first lane.
  void BookRead(int lane, uint32_t address);

  void Commit(int thread) { ++Of(thread).open; }
  void Wait(int thread, int pending, const Access& access);

  /// Throws Fault if a product may still read what is about to be written.
  void CheckWrite(uint32_t address, const Access& access);
  void CheckEnd(int thread, const Access& access) const;

 private:
  struct Sum {
    float* d;
    std::vector<float> values;
    uint64_t group;
  };
  struct Factor {
    const uint32_t* a;
    std::array<uint32_t, 4> values;
    uint64_t group;
  };
  struct Thread {
    bool fenced = false;
    uint64_t open = 1;  ///< the group that is being made
    std::vector<Sum> sums;
    std::vector<Factor> factors;
  };
  struct Read {
    int lane;
    uint64_t group;
    uint32_t moment;  ///< Clocks::kNever while in flight
  };

  Thread& Of(int thread) { return threads_[static_cast<size_t>(thread)]; }
  const Thread& Of(int thread) const { return threads_[static_cast<size_t>(thread)]; }

  Clocks& clocks_;
  std::vector<Thread> threads_;
  std::vector<std::vector<Read>> reads_;  // of each 1,024 bytes
};

}  // namespace xcomposer::emulator
