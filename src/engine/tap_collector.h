#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "batch/batch.h"

namespace xcomposer {

/// Puts together the intermediate tensors of a prompt that ran in chunks, so that the caller gets
/// whole ones, (T, ...), whatever the chunk. Not thread-safe.
class TapCollector {
 public:
  explicit TapCollector(TapSink sink) : sink_(std::move(sink)) {}

  bool Wants(const std::string& name) const { return sink_.Wants(name); }

  /// The sink for one chunk's batch. Must not outlive the collector.
  TapSink ForChunk();

  /// Appends to the rows of a tensor: its first dimension grows.
  void Append(Tap&& tap);

  /// Hands everything to the caller's sink, by name.
  void Flush();

 private:
  TapSink sink_;
  std::map<std::string, Tap> taps_;
};

}  // namespace xcomposer
