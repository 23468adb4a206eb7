#include "support/emulator/machine.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

namespace xcomposer::emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
// Far more than any test's kernel needs.
constexpr uint64_t kMostAccesses = 30'000'000;

std::vector<int> Ordered(int count, const Schedule& schedule, uint64_t salt) {
  std::vector<int> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  if (schedule.order == Schedule::Order::kBackward) std::reverse(order.begin(), order.end());
  if (schedule.order == Schedule::Order::kShuffled) {
    std::mt19937_64 random(schedule.seed * 0x9E3779B97F4A7C15 + salt);
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

}  // namespace

Machine& Machine::Instance() {
  static Machine machine;
  return machine;
}

std::string Machine::Run(const LaunchConfig& config, const Schedule& schedule,
                         const std::function<void()>& kernel) {
  config_ = config;
  thread_count_ = config.threads;
  fault_.clear();
  accesses_ = 0;
  ++launch_;
  while (static_cast<int>(threads_.size()) < config.threads) {
    threads_.push_back({});
    threads_.back().fiber = std::make_unique<Fiber>(kStackBytes);
  }
  const unsigned blocks = config.grid.x * config.grid.y * config.grid.z;
  for (const int block : Ordered(static_cast<int>(blocks), schedule, 0)) {
    const auto b = static_cast<unsigned>(block);
    block_ = {b % config.grid.x, b / config.grid.x % config.grid.y,
              b / (config.grid.x * config.grid.y)};
    RunBlock(kernel, schedule);
    if (!fault_.empty()) {
      return fault_ + " [block " + std::to_string(block_.x) + "," + std::to_string(block_.y) + "," +
             std::to_string(block_.z) + "]";
    }
  }
  return "";
}

void Machine::RunBlock(const std::function<void()>& kernel, const Schedule& schedule) {
  ++block_id_;
  ++block_epoch_;
  shared_.Reset(config_.shared_bytes);
  clocks_.Stop();
  barriers_.Reset();
  bulk_copies_.clear();
  followed_.clear();
  products_.Reset(thread_count_, kSharedBase + config_.shared_bytes);
  warp_epochs_.assign(static_cast<size_t>((thread_count_ + kWarp - 1) / kWarp), 0);
  unfenced_ = false;
  acquired_ = false;
  for (int t = 0; t < thread_count_; ++t) {
    Thread& thread = threads_[static_cast<size_t>(t)];
    thread.wait = Wait::kNone;
    thread.waited = !config_.dependent;
    thread.atomic = false;
    thread.open_copies.clear();
    thread.groups.clear();
    thread.fiber->Reset([this, &kernel, &thread] {
      try {
        kernel();
        if (!thread.waited) {
          throw Fault("thread " + std::to_string(current_) +
                      " ended without GridDependencyWait: the kernel after would not wait for the "
                      "kernel before");
        }
        products_.CheckEnd(current_, Now({}));
      } catch (const Fault& fault) {
        if (fault_.empty()) fault_ = fault.what();
      }
      thread.wait = Wait::kEnded;
    });
  }
  try {
    for (uint64_t pass = 0; fault_.empty(); ++pass) {
      std::vector<int> order = Ordered(thread_count_, schedule, block_id_ * 1000003 + pass);
      const auto lags = std::stable_partition(order.begin(), order.end(), [&schedule](int thread) {
        return thread / (4 * kWarp) != schedule.lagging_warpgroup;
      });
      const std::vector<int> lagging(lags, order.end());
      order.erase(lags, order.end());
      const bool progress = Pass(order) || (fault_.empty() && Pass(lagging));
      const auto ended = [](const Thread& thread) { return thread.wait == Wait::kEnded; };
      if (std::all_of(threads_.begin(), threads_.begin() + thread_count_, ended)) {
        barriers_.CheckEnd();
        if (!bulk_copies_.empty()) {
          throw Fault("the block ended before a bulk copy by " +
                      Describe(bulk_copies_.begin()->second.front().access));
        }
        break;
      }
      if (!progress) ReleaseBarrier();
    }
  } catch (const Fault& fault) {
    if (fault_.empty()) fault_ = fault.what();
  }
}

bool Machine::Pass(const std::vector<int>& order) {
  bool progress = false;
  for (const int t : order) {
    Thread& thread = threads_[static_cast<size_t>(t)];
    if (thread.wait != Wait::kNone) continue;
    current_ = t;
    thread.fiber->Resume();
    progress = true;
    if (!fault_.empty()) break;
  }
  return progress;
}

void Machine::ReleaseBarrier() {
  // Nothing can run: that is right only if all threads stand at the same barrier.
  for (int t = 0; t < thread_count_; ++t) {
    const Thread& thread = threads_[static_cast<size_t>(t)];
    if (thread.wait != Wait::kBlock || thread.site.line != threads_[0].site.line) Stuck();
  }
  ++block_epoch_;
  clocks_.Meet(0, thread_count_);
  for (int t = 0; t < thread_count_; ++t) threads_[static_cast<size_t>(t)].wait = Wait::kNone;
}

std::string Machine::Name(Wait wait) {
  switch (wait) {
    case Wait::kBlock:
      return "waits for its block at ";
    case Wait::kBarrier:
      return "waits for a barrier at ";
    default:
      return "waits for its warp at ";
  }
}

void Machine::Stuck() const {
  std::string text = "divergent barrier:";
  std::vector<std::string> seen;
  for (int t = 0; t < thread_count_; ++t) {
    const Thread& thread = threads_[static_cast<size_t>(t)];
    const std::string where =
        thread.wait == Wait::kEnded ? "has ended" : Name(thread.wait) + ToString(thread.site);
    if (std::find(seen.begin(), seen.end(), where) != seen.end()) continue;
    seen.push_back(where);
    text += " thread " + std::to_string(t) + " " + where + ";";
  }
  throw Fault(text);
}

void Machine::Block(Wait wait, Site site) {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  thread.wait = wait;
  thread.site = site;
  thread.fiber->Leave();
}

void Machine::SyncThreads(Site site) { Block(Wait::kBlock, site); }

void Machine::SyncWarp(Site site) {
  WarpCollective(
      nullptr,
      [this](std::array<void*, kWarp>&) {
        warp_epochs_[static_cast<size_t>(current_ / kWarp)] = ++warp_epoch_;
        clocks_.Meet(current_ / kWarp * kWarp, kWarp);
      },
      site);
}

void Machine::WarpCollective(void* operands, const WarpWork& work, Site site) {
  Collective<kWarp>(operands, work, site);
}

void Machine::WarpgroupCollective(void* operands, const WarpgroupWork& work, Site site) {
  Collective<4 * kWarp>(operands, work, site);
}

template <size_t kThreads, typename Work>
void Machine::Collective(void* operands, const Work& work, Site site) {
  constexpr int kCount = static_cast<int>(kThreads);
  const int first = current_ / kCount * kCount;
  Thread& self = threads_[static_cast<size_t>(current_)];
  self.operands = operands;
  self.wait = Wait::kWarp;
  self.site = site;
  std::array<void*, kThreads> all{};
  for (int lane = 0; lane < kCount; ++lane) {
    const Thread& other = threads_[static_cast<size_t>(first + lane)];
    const bool here = first + lane < thread_count_ && other.wait == Wait::kWarp &&
                      other.site.line == site.line && other.site.file == site.file;
    if (!here) {
      self.fiber->Leave();
      return;
    }
    all[static_cast<size_t>(lane)] = other.operands;
  }
  work(all);
  for (int lane = 0; lane < kCount; ++lane) {
    threads_[static_cast<size_t>(first + lane)].wait = Wait::kNone;
  }
}

void Machine::GridDependencyWait() { threads_[static_cast<size_t>(current_)].waited = true; }

void Machine::ThreadFence() {
  unfenced_ = false;
  // One thread's fence counts for the threads that a barrier lets follow it.
  if (threads_[static_cast<size_t>(current_)].atomic) acquired_ = true;
}

void Machine::Atomic(Site site) {
  if (unfenced_) {
    throw Fault("atomic operation by " + Describe(Now(site)) +
                " without a fence after the block's writes: other blocks may not see them");
  }
  if (last_write_.block_epoch == block_epoch_ && last_write_.thread != current_) {
    throw Fault("atomic operation by " + Describe(Now(site)) +
                " without a barrier after writes of the block's other threads");
  }
  threads_[static_cast<size_t>(current_)].atomic = true;
  last_atomic_ = {block_epoch_, current_};
}

Access Machine::Now(Site site) const {
  const Thread& thread = threads_[static_cast<size_t>(current_)];
  Access access;
  access.launch = launch_;
  access.block = block_id_;
  access.thread = static_cast<int16_t>(current_);
  access.warp = static_cast<int16_t>(current_ / kWarp);
  access.block_epoch = block_epoch_;
  access.warp_epoch = warp_epochs_[static_cast<size_t>(access.warp)];
  access.waited = thread.waited;
  access.acquired = acquired_;
  access.moment = clocks_.Now(current_);
  if (clocks_.running()) access.seen = clocks_.Of(current_).seen.data();
  access.site = site;
  return access;
}

void Machine::CountAccess(Site site) {
  if (++accesses_ > kMostAccesses) {
    throw Fault("the kernel does not end: " + Describe(Now(site)));
  }
}

void Machine::GlobalRead(const void* p, size_t bytes, Site site) {
  CountAccess(site);
  global_.CheckRead(p, bytes, Now(site));
}

void Machine::GlobalReadSettled(const void* p, size_t bytes, Site site) {
  CountAccess(site);
  global_.CheckSettled(p, bytes, Now(site));
}

void Machine::GlobalPrefetch(const void* p, Site site) {
  CountAccess(site);
  global_.CheckPrefetch(p, Now(site));
}

void Machine::GlobalWrite(void* p, size_t bytes, Site site, bool atomic) {
  CountAccess(site);
  global_.CheckWrite(p, bytes, Now(site), atomic);
  if (atomic) return;
  unfenced_ = true;
  if (last_atomic_.block_epoch == block_epoch_ && last_atomic_.thread != current_) {
    throw Fault(
        "global write by " + Describe(Now(site)) +
        " without a barrier before another thread's atomic operation, which may announce it");
  }
  const bool alone = last_write_.block_epoch != block_epoch_ || last_write_.thread == current_;
  last_write_ = {block_epoch_, alone ? current_ : -2};
}

void Machine::SharedAccess(const void* p, size_t bytes, AccessKind kind, Site site) {
  CountAccess(site);
  shared_.Check(p, bytes, Now(site), kind);
  if (clocks_.running() && kind != AccessKind::kRead) {
    products_.CheckWrite(SharedAddress(p), Now(site));
  }
}

void Machine::CopyAsync(void* shared, const void* global, size_t bytes, bool valid, Site site) {
  if (valid) GlobalRead(global, bytes, site);
  SharedAccess(shared, bytes, AccessKind::kPending, site);
  auto copy = std::make_shared<Copy>();
  copy->target = shared;
  copy->bytes.resize(bytes);  // zeros, unless valid
  if (valid) std::memcpy(copy->bytes.data(), global, bytes);
  std::memset(shared, 0xFF, bytes);  // NaN until it has arrived
  threads_[static_cast<size_t>(current_)].open_copies.push_back(std::move(copy));
}

void Machine::CommitCopies() {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  thread.groups.push_back(std::move(thread.open_copies));
  thread.open_copies.clear();
}

void Machine::WaitCopies(int pending, Site site) {
  Thread& thread = threads_[static_cast<size_t>(current_)];
  while (static_cast<int>(thread.groups.size()) > pending) {
    for (const std::shared_ptr<Copy>& copy : thread.groups.front()) {
      Bring(*copy, copy->followed ? copy->access : Now(site));
    }
    thread.groups.pop_front();
  }
}

void Machine::Bring(Copy& copy, const Access& access) {
  if (copy.arrived) return;
  copy.arrived = true;
  auto* to = static_cast<unsigned char*>(copy.target);
  const size_t unit = std::min<size_t>(copy.bytes.size(), 16);
  for (size_t i = 0; i < copy.bytes.size(); i += unit) {
    shared_.Check(to + i, unit, access, AccessKind::kArrived);
  }
  std::memcpy(to, copy.bytes.data(), copy.bytes.size());
}

}  // namespace xcomposer::emulator
