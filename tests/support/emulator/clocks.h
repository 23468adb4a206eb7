#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace xcomposer::emulator {

/// Up to which moment of each thread of a block what it did is known: to come before what happens
/// now, and to be visible to products of warpgroups, which have a view of memory of their own.
struct Knowledge {
  std::vector<uint32_t> seen;
  std::vector<uint32_t> fenced;

  void Add(const Knowledge& other);
};

/// Vector clocks of a block's threads. They begin to run with the first barrier that is not for all
/// threads of the block or a warp, so that kernels without any do without. A thread's moment grows
/// with everything that it tells others.
class Clocks {
 public:
  static constexpr uint32_t kFirst = 1;  ///< moment of a thread, until it has told anything
  static constexpr uint32_t kNever = UINT32_MAX;

  void Stop() { running_ = false; }
  void Start(int threads);
  bool running() const { return running_; }

  /// The moment in which the thread acts now.
  uint32_t Now(int thread) const;
  const Knowledge& Of(int thread) const { return threads_[static_cast<size_t>(thread)]; }
  /// What all of `count` threads know.
  Knowledge Common(int first, int count) const;

  void Tell(int thread, Knowledge& listener);
  void Learn(int thread, const Knowledge& told);
  /// `count` threads from `first` on tell each other all they know.
  void Meet(int first, int count);
  /// What the thread knows of is visible to products of those that know of this.
  void FenceProducts(int thread);

 private:
  void Advance(int thread);

  bool running_ = false;
  std::vector<Knowledge> threads_;
};

}  // namespace xcomposer::emulator
