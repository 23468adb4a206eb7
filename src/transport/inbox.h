#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "transport/transport.h"

namespace xcomposer {

/// The frames that have arrived at one rank and that nobody took yet, and the reason why no more
/// will come. Thread-safe.
class Inbox {
 public:
  /// Wakes whoever waits for it. After a failure the frame is dropped.
  void Put(int from, Frame frame);

  /// The next frame, or nothing at `until`. Throws the failure.
  std::optional<Frame> Take(int from, Channel channel, TimePoint until);

  /// Ends every wait with `reason` and frees what nobody took. False where there was a reason
  /// already: the first one counts.
  bool Fail(const Error& reason);

  std::optional<Error> failure() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, Channel>, std::deque<Frame>> frames_;
  std::optional<Error> failure_;
};

}  // namespace xcomposer
