#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

#include "transport/transport.h"

namespace xcomposer {

/// How much may be on its way to one receiver on one channel. One frame, however large, may always
/// be beside less than a quarter of it.
struct WindowLimits {
  uint64_t bytes = 0;
  uint64_t frames = 0;
};

/// Counts since the run began; they never go back.
struct WindowCount {
  uint64_t bytes = 0;
  uint64_t frames = 0;
};

/// Whether one more frame of `bytes` fits while `on_the_way` has not been taken.
bool FitsWindow(const WindowLimits& limits, const WindowCount& on_the_way, uint64_t bytes);

/// The sender's side: waits while the receiver has not taken enough. Thread-safe.
class SendWindow {
 public:
  /// Returns true when there is room, which is then used up; false at `until`, or once it is
  /// closed.
  bool Reserve(const WindowLimits& limits, uint64_t bytes, TimePoint until);

  /// The receiver has taken this much in all. Throws kTransport for more than was ever sent.
  void Acknowledge(const WindowCount& taken);

  /// Wakes whoever waits, for good.
  void Close();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  WindowCount sent_;
  WindowCount taken_;
  bool closed_ = false;
};

/// The receiver's side: decides when the sender is to be told. Thread-safe.
class ReceiveLedger {
 public:
  /// A frame came in. False where the sender was not allowed to send it.
  bool Arrived(const WindowLimits& limits, uint64_t bytes);

  /// A frame was taken. Returns the count to tell the sender, once it has not been told of a quarter.
  std::optional<WindowCount> Taken(const WindowLimits& limits, uint64_t bytes);

 private:
  std::mutex mutex_;
  WindowCount arrived_;
  WindowCount taken_;
  WindowCount told_;
};

}  // namespace xcomposer
