#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "transport/transport.h"

namespace xcomposer::api {

/// While ranks open and load: a thread of its own asks `stop` ten times a second, and ends the run
/// for all ranks (kCancelled) where it says so. Whoever waits for other ranks does not look itself.
class StopWatcher {
 public:
  /// Does nothing where there is no question or no run. Both must live longer.
  StopWatcher(const std::function<bool()>& stop, Transport* transport);
  ~StopWatcher();
  StopWatcher(const StopWatcher&) = delete;
  StopWatcher& operator=(const StopWatcher&) = delete;

  /// Asks no more from now on.
  void End();

 private:
  void Watch(const std::function<bool()>& stop, Transport& transport);

  std::mutex mutex_;  // guards ended_
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace xcomposer::api
