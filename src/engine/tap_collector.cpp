#include "engine/tap_collector.h"

#include <utility>

#include "base/check.h"

namespace xcomposer {

TapSink TapCollector::ForChunk() {
  TapSink chunk;
  if (!sink_.wants) return chunk;
  chunk.wants = sink_.wants;
  chunk.put = [this](Tap&& tap) { Append(std::move(tap)); };
  return chunk;
}

void TapCollector::Append(Tap&& tap) {
  const auto found = taps_.find(tap.name);
  if (found == taps_.end()) {
    std::string name = tap.name;
    taps_.emplace(std::move(name), std::move(tap));
    return;
  }
  Tap& whole = found->second;
  Check(!tap.shape.empty() && tap.shape.size() == whole.shape.size(), "chunks of the tensor ",
        tap.name, " differ in rank");
  for (size_t i = 1; i < tap.shape.size(); ++i) {
    Check(tap.shape[i] == whole.shape[i], "chunks of the tensor ", tap.name, " differ in shape");
  }
  whole.shape[0] += tap.shape[0];
  whole.values.insert(whole.values.end(), tap.values.begin(), tap.values.end());
  whole.bytes.insert(whole.bytes.end(), tap.bytes.begin(), tap.bytes.end());
}

void TapCollector::Flush() {
  for (auto& [name, tap] : taps_) {
    if (sink_.put) sink_.put(std::move(tap));
  }
  taps_.clear();
}

}  // namespace xcomposer
