#include "api/stop_watcher.h"

#include <chrono>

#include "base/check.h"
#include "base/current_error.h"

namespace xcomposer::api {
namespace {

constexpr std::chrono::milliseconds kPause{100};

}  // namespace

StopWatcher::StopWatcher(const std::function<bool()>& stop, Transport* transport) {
  if (!stop || transport == nullptr) return;
  thread_ = std::thread([this, &stop, transport] { Watch(stop, *transport); });
}

StopWatcher::~StopWatcher() { End(); }

void StopWatcher::End() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StopWatcher::Watch(const std::function<bool()>& stop, Transport& transport) {
  try {
    std::unique_lock lock(mutex_);
    while (!ended_ && !stop()) changed_.wait_for(lock, kPause, [this] { return ended_; });
    Require(ended_, ErrorKind::kCancelled, "rank ", transport.rank(), " was asked to end");
  } catch (...) {  // what the caller's question throws too
    transport.Abort(CurrentError().With("rank", StrCat(transport.rank())));
  }
}

}  // namespace xcomposer::api
