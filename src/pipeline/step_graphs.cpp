#include "pipeline/step_graphs.h"

#include <algorithm>

#include "base/log.h"
#include "xcomposer/error.h"

namespace xcomposer {

void StepGraphs::Run(const DecodeShape& shape, const std::function<void()>& work) {
  Entry& entry = entries_[shape];
  entry.used = ++steps_;
  switch (entry.state) {
    case State::kNew:
      work();  // a step that throws leaves the shape as new as it was
      entry.state = State::kLaunchedOnce;
      return;
    case State::kLaunchedOnce:
      Record(entry, work);
      break;
    case State::kRecorded:
    case State::kRefused:
      break;
  }
  if (entry.state == State::kRecorded) {
    entry.graph->Replay();
  } else {
    work();
  }
}

void StepGraphs::Record(Entry& entry, const std::function<void()>& work) {
  try {
    MakeRoom();
    entry.graph = recorder_.Record(work);
    entry.state = State::kRecorded;
  } catch (const Error& error) {
    entry.state = State::kRefused;
    if (error.kind() == ErrorKind::kDevice) throw;  // the device is lost, not the recording
    log::Info("a decoding step is launched kernel by kernel: ", error.what());
  }
}

/// Drops the graph that was used longest ago. Its shape may be recorded again.
void StepGraphs::MakeRoom() {
  if (recorded() < most_) return;
  auto oldest = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->second.state != State::kRecorded) continue;
    if (oldest == entries_.end() || it->second.used < oldest->second.used) oldest = it;
  }
  if (oldest == entries_.end()) return;
  oldest->second.graph.reset();
  oldest->second.state = State::kLaunchedOnce;
}

size_t StepGraphs::recorded() const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry.second.state == State::kRecorded;
  }));
}

}  // namespace xcomposer
