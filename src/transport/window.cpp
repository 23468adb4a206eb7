#include "transport/window.h"

#include <chrono>

#include "base/check.h"

namespace xcomposer {
namespace {

WindowCount Difference(const WindowCount& more, const WindowCount& less) {
  return {more.bytes - less.bytes, more.frames - less.frames};
}

/// Less than a quarter of the window, of which the receiver says nothing.
bool IsLittle(const WindowLimits& limits, const WindowCount& count) {
  return count.bytes < limits.bytes / 4 && count.frames < (limits.frames + 3) / 4;
}

}  // namespace

bool FitsWindow(const WindowLimits& limits, const WindowCount& on_the_way, uint64_t bytes) {
  // All of a little may be taken already and will never be told: who waits for it waits for ever.
  if (on_the_way.frames == 0 || IsLittle(limits, on_the_way)) return true;
  return on_the_way.frames < limits.frames && on_the_way.bytes <= limits.bytes &&
         bytes <= limits.bytes - on_the_way.bytes;
}

bool SendWindow::Reserve(const WindowLimits& limits, uint64_t bytes, TimePoint until) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(
      lock, until, [&] { return closed_ || FitsWindow(limits, Difference(sent_, taken_), bytes); });
  if (closed_ || !FitsWindow(limits, Difference(sent_, taken_), bytes)) return false;
  sent_.bytes += bytes;
  ++sent_.frames;
  return true;
}

void SendWindow::Acknowledge(const WindowCount& taken) {
  {
    const std::lock_guard lock(mutex_);
    Require(taken.bytes <= sent_.bytes && taken.frames <= sent_.frames &&
                taken.bytes >= taken_.bytes && taken.frames >= taken_.frames,
            ErrorKind::kTransport, "a rank took ", taken.frames, " frames and ", taken.bytes,
            " bytes, of ", sent_.frames, " frames and ", sent_.bytes, " bytes sent");
    taken_ = taken;
  }
  changed_.notify_all();
}

void SendWindow::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

bool ReceiveLedger::Arrived(const WindowLimits& limits, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!FitsWindow(limits, Difference(arrived_, told_), bytes)) return false;
  arrived_.bytes += bytes;
  ++arrived_.frames;
  return true;
}

std::optional<WindowCount> ReceiveLedger::Taken(const WindowLimits& limits, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  taken_.bytes += bytes;
  ++taken_.frames;
  if (IsLittle(limits, Difference(taken_, told_))) return std::nullopt;
  told_ = taken_;
  return told_;
}

}  // namespace xcomposer
