#pragma once

#include <functional>
#include <memory>

#include "transport/transport.h"

namespace xcomposer {

/// Runs calls that know no deadline (name resolution, the store's client) on a thread of its own,
/// so that the caller can stop to wait. Not thread-safe.
class DeadlineWorker {
 public:
  DeadlineWorker();
  DeadlineWorker(const DeadlineWorker&) = delete;
  DeadlineWorker& operator=(const DeadlineWorker&) = delete;
  /// Where a call is overdue, its thread is left to end when the call does; nothing waits for it.
  ~DeadlineWorker();

  /// Runs `work` and throws what it throws. False where it did not return until `until`: then it
  /// may still run, so that it must own what it touches, and nothing more can be run. False from
  /// then on.
  bool Run(std::function<void()> work, TimePoint until);

 private:
  struct Shared;
  static void Serve(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;
  bool overdue_ = false;
};

}  // namespace xcomposer
