#include "pipeline/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>

namespace xcomposer {

struct AllocationScope::Counter final : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override { Add(size); }
  bool memoryProfilingEnabled() const override { return true; }

  void Add(int64_t size) {
    alive += size;
    peak = std::max(peak, alive);
    if (outer != nullptr) outer->Add(size);
  }

  int64_t alive = 0;
  int64_t peak = 0;
  Counter* outer = nullptr;
};

struct AllocationScope::Guard {
  explicit Guard(std::shared_ptr<c10::DebugInfoBase> info)
      : guard(c10::DebugInfoKind::PROFILER_STATE, std::move(info)) {}
  c10::DebugInfoGuard guard;
};

AllocationScope::AllocationScope() : counter_(std::make_shared<Counter>()) {
  counter_->outer =
      dynamic_cast<Counter*>(c10::ThreadLocalDebugInfo::get(c10::DebugInfoKind::PROFILER_STATE));
  guard_ = std::make_unique<Guard>(counter_);
}

AllocationScope::~AllocationScope() = default;

int64_t AllocationScope::alive() const { return counter_->alive; }
int64_t AllocationScope::peak() const { return counter_->peak; }

}  // namespace xcomposer
