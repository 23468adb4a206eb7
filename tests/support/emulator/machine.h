#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/emulator/barriers.h"
#include "support/emulator/clocks.h"
#include "support/emulator/fiber.h"
#include "support/emulator/memory.h"
#include "support/emulator/products.h"

namespace xcomposer::emulator {

/// In which order blocks and threads run. A right kernel gives the same bits under all of them.
struct Schedule {
  enum class Order { kForward, kBackward, kShuffled };
  Order order = Order::kForward;
  uint64_t seed = 0;  ///< of kShuffled
  /// A group of four warps of a block that runs only while all others wait; -1: none.
  int lagging_warpgroup = -1;
};

struct Index3 {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

struct LaunchConfig {
  Index3 grid{1, 1, 1};
  int threads = 32;  ///< of a block
  size_t shared_bytes = 0;
  bool dependent = false;  ///< launched while the kernel before may still run
};

/// Runs a kernel block by block, its threads as fibers on the calling thread. Says nothing about
/// speed, and about memory ordering only that a barrier or fence is there.
class Machine {
 public:
  static constexpr int kWarp = 32;

  static Machine& Instance();

  GlobalMemory& global() { return global_; }

  /// Empty when the kernel ran to its end without a fault; otherwise the first fault.
  std::string Run(const LaunchConfig& config, const Schedule& schedule,
                  const std::function<void()>& kernel);

  // What follows is called by the emulated device functions, on a fiber.

  struct Lane;
  /// Takes the operands of all lanes of a warp, and fills in their results.
  using WarpWork = std::function<void(std::array<void*, kWarp>&)>;
  using WarpgroupWork = std::function<void(std::array<void*, 4 * kWarp>&)>;

  int thread() const { return current_; }
  Index3 block() const { return block_; }
  const LaunchConfig& config() const { return config_; }
  SharedMemory& shared() { return shared_; }

  void SyncThreads(Site site);
  void SyncWarp(Site site);
  /// Returns when all 32 lanes have come to the same place; the last one does the work for all.
  void WarpCollective(void* operands, const WarpWork& work, Site site);
  void WarpgroupCollective(void* operands, const WarpgroupWork& work, Site site);
  void GridDependencyWait();
  void ThreadFence();
  void Atomic(Site site);

  /// The current thread touching memory at `site`.
  Access Now(Site site) const;
  void GlobalRead(const void* p, size_t bytes, Site site);
  /// Of what no kernel has written: allowed before GridDependencyWait.
  void GlobalReadSettled(const void* p, size_t bytes, Site site);
  void GlobalPrefetch(const void* p, Site site);
  void GlobalWrite(void* p, size_t bytes, Site site, bool atomic = false);
  void SharedAccess(const void* p, size_t bytes, AccessKind kind, Site site);

  void CopyAsync(void* shared, const void* global, size_t bytes, bool valid, Site site);
  void CommitCopies();
  /// All but the newest `pending` committed groups are complete.
  void WaitCopies(int pending, Site site);

  // Compute capability 9.0: machine_hopper.cpp.

  /// Where shared memory begins in its own address space: on no more than 16 bytes.
  static constexpr uint32_t kSharedBase = 1168;
  uint32_t SharedAddress(const void* p);

  void BarrierInit(const void* barrier, int arrivals, Site site);
  void BarrierArrive(const void* barrier, Site site);
  /// Counts at once, but what the thread's copies bring is there only for those that wait for the
  /// phase: it arrives as late as it may.
  void BarrierArriveAfterCopies(const void* barrier, Site site);
  void BarrierWait(const void* barrier, int parity, Site site);
  void BarriersReady();
  void BarrierArriveExpecting(const void* barrier, int bytes, Site site);
  /// What it brings arrives as late as it may: when somebody waits for it.
  void CopyBulk(void* shared, const void* global, int bytes, const void* barrier, Site site);
  void NamedBarrier(int barrier, int threads, bool waits, Site site);

  void ProductFence();
  void WarpgroupFence() { products_.Fence(current_); }
  void CommitProducts() { products_.Commit(current_); }
  void WaitProducts(int pending, Site site);
  /// The current thread begins one for its warpgroup, all of whose threads have come to it.
  void BeginProduct(Site site);
  /// 16 bytes that the product reads.
  const unsigned char* ProductRead(uint32_t address, Site site);
  void ProductUsesRegisters(const uint32_t (&a)[4]) { products_.UseRegisters(current_, a); }
  /// `thread`: of the warpgroup.
  const float* ProductSums(int thread, const float* d) const;
  void GiveProduct(int thread, float* d, const std::vector<float>& sums);

 private:
  enum class Wait { kNone, kBlock, kWarp, kBarrier, kEnded };

  struct Copy {
    void* target = nullptr;
    std::vector<unsigned char> bytes;
    bool followed = false;  ///< by a barrier
    bool arrived = false;
    /// Of the thread when it asked for a copy in bulk, or first let a barrier follow this one: what
    /// those that wait for the barrier see.
    Access access;
  };
  using Copies = std::vector<std::shared_ptr<Copy>>;

  struct Thread {
    std::unique_ptr<Fiber> fiber;
    Wait wait = Wait::kNone;
    Site site;
    void* operands = nullptr;
    bool waited = true;
    bool atomic = false;  ///< has made an atomic operation
    Copies open_copies;
    std::deque<Copies> groups;
  };

  /// Copies whose end is an arrival in this phase of a barrier.
  struct Followed {
    uint32_t phase = 0;
    Copies copies;
  };

  void RunBlock(const std::function<void()>& kernel, const Schedule& schedule);
  void CountAccess(Site site);
  bool Pass(const std::vector<int>& order);
  void ReleaseBarrier();
  void Block(Wait wait, Site site);
  template <size_t kThreads, typename Work>
  void Collective(void* operands, const Work& work, Site site);
  void Release(const std::vector<int>& threads);
  void Deliver(const void* barrier, Site site);
  void DeliverFollowed(const void* barrier, Site site);
  void Bring(Copy& copy, const Access& access);
  static std::string Name(Wait wait);
  [[noreturn]] void Stuck() const;

  GlobalMemory global_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  int thread_count_ = 0;
  LaunchConfig config_;
  Index3 block_;
  int current_ = 0;
  uint64_t accesses_ = 0;  ///< of the launch: a kernel that never ends is a fault too
  uint32_t launch_ = 0;
  uint32_t block_id_ = 0;
  uint32_t block_epoch_ = 0;
  uint32_t warp_epoch_ = 0;
  std::vector<uint32_t> warp_epochs_;
  bool acquired_ = false;  ///< a thread of the block made an atomic operation and then a fence
  // The block's last writes to global memory and its last atomic operation: an atomic operation
  // that announces writes of several threads needs a barrier between it and them.
  struct Moment {
    uint32_t block_epoch = 0;
    int thread = -1;  ///< -2: several
  };
  Moment last_write_;
  Moment last_atomic_;
  bool unfenced_ = false;  ///< the block has written global memory since its last fence
  Clocks clocks_;
  Barriers barriers_{clocks_};
  std::map<const void*, std::vector<Copy>> bulk_copies_;   ///< by barrier
  std::map<const void*, std::vector<Followed>> followed_;  ///< by barrier
  Products products_{clocks_};
  Knowledge common_;  ///< of the warpgroup that begins a product
  std::string fault_;
};

}  // namespace xcomposer::emulator
