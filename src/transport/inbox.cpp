#include "transport/inbox.h"

#include <algorithm>
#include <utility>

namespace xcomposer {

void Inbox::Put(int from, Frame frame) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    frames_[{from, frame.header.channel}].push_back(std::move(frame));
  }
  changed_.notify_all();
}

std::optional<Frame> Inbox::Take(int from, Channel channel, TimePoint until) {
  // A caller may mean "for ever" by the largest time; waiting for it would overflow in the library.
  until = std::min(until, std::chrono::steady_clock::now() + std::chrono::hours(24 * 365));
  std::unique_lock lock(mutex_);
  std::deque<Frame>& queue =
      frames_[{from, channel}];  // stays where it is: entries are never erased
  changed_.wait_until(lock, until, [&] { return failure_ || !queue.empty(); });
  if (failure_) throw Error(*failure_);
  if (queue.empty()) return std::nullopt;
  Frame frame = std::move(queue.front());
  queue.pop_front();
  return frame;
}

bool Inbox::Fail(const Error& reason) {
  std::map<std::pair<int, Channel>, std::deque<Frame>> dropped;  // freed without the lock
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return false;
    failure_ = reason;
    for (auto& [key, queue] : frames_) dropped[key].swap(queue);
  }
  changed_.notify_all();
  return true;
}

std::optional<Error> Inbox::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace xcomposer
