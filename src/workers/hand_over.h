#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "xcomposer/error.h"

namespace xcomposer {

/// A queue from one thread to another that ends with a reason. Nobody waits in it longer than the
/// line of stages lives: Fail wakes every wait. Thread-safe.
template <typename T>
class HandOver {
 public:
  void Put(T item) {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    items_.push_back(std::move(item));
    changed_.notify_one();
  }

  /// The next item. Throws the reason of the end, even where items are left.
  T Take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return failure_ || !items_.empty(); });
    if (failure_) throw Error(*failure_);
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

  /// The first reason counts.
  void Fail(const Error& reason) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = reason;
    items_.clear();
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  std::optional<Error> failure_;
};

}  // namespace xcomposer
