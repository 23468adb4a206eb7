#include "ops/step_memory.h"

#include <ATen/ops/empty.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>

namespace xcomposer::ops {
namespace {

/// What the calling thread has got from Torch's allocator and not given back, in bytes.
class Meter {
 public:
  int64_t alive() const { return counter_->alive; }
  int64_t peak() const { return counter_->peak; }

 private:
  struct Counter : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      alive += size;
      peak = std::max(peak, alive);
    }
    bool memoryProfilingEnabled() const override { return true; }
    int64_t alive = 0;
    int64_t peak = 0;
  };

  std::shared_ptr<Counter> counter_ = std::make_shared<Counter>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, counter_};
};

constexpr int64_t kFloats = 1 << 16;  // large
constexpr int64_t kBytes = kFloats * 4;

at::Tensor Large(int64_t floats = kFloats) { return EmptyResult({floats}, at::kFloat); }

TEST(StepMemory, HandsOnWhatIsFree) {
  const StepMemory memory;
  const void* place = Large().data_ptr();
  EXPECT_EQ(Large().data_ptr(), place);
  EXPECT_EQ(EmptyResult({2, kFloats / 2}, at::kFloat).data_ptr(), place);
  EXPECT_EQ(Large(kFloats - kFloats / 8).data_ptr(), place) << "an eighth may be wasted";
}

TEST(StepMemory, NeverHandsOnWhatIsInUse) {
  const StepMemory memory;
  const at::Tensor first = Large();
  const at::Tensor view = Large().slice(0, 1, 5);
  const at::Tensor third = Large();
  EXPECT_NE(third.data_ptr(), first.data_ptr());
  EXPECT_NE(third.data_ptr(), view.storage().data());
}

TEST(StepMemory, HoldsNoMoreThanWasInUseAtOnce) {
  const Meter meter;
  {
    const StepMemory memory;
    for (int64_t floats = kFloats; floats <= 16 * kFloats; floats *= 2) Large(floats);
    EXPECT_EQ(meter.peak(), 16 * kBytes);
    EXPECT_EQ(meter.alive(), 16 * kBytes);
    const at::Tensor small = Large(4 * kFloats);  // the large block would waste too much of itself
    EXPECT_EQ(meter.peak(), 16 * kBytes);
    EXPECT_EQ(meter.alive(), 4 * kBytes);
    Large(6 * kFloats);
    EXPECT_EQ(meter.alive(), 10 * kBytes) << "there is room for both again";
    Large(3 * kFloats);
    EXPECT_EQ(meter.alive(), 13 * kBytes);
  }
  EXPECT_EQ(meter.alive(), 0);
}

TEST(StepMemory, ResultsOutliveIt) {
  const Meter meter;
  at::Tensor kept;
  at::Tensor other;
  {
    const StepMemory memory;
    const at::Tensor free = Large();
    kept = Large();
    other = Large();
    EXPECT_EQ(meter.alive(), 3 * kBytes);
  }
  EXPECT_EQ(meter.alive(), 2 * kBytes) << "what is free goes, though others are kept";
  kept.fill_(2.5f);
  EXPECT_EQ(kept.sum().item<float>(), 2.5f * kFloats);
  kept.reset();
  EXPECT_EQ(meter.alive(), kBytes) << "each goes by itself";
  other.reset();
  EXPECT_EQ(meter.alive(), 0);
  EXPECT_NE(Large().defined(), false);
  EXPECT_EQ(meter.alive(), 0) << "served nobody any more";
}

TEST(StepMemory, BelongsToItsThread) {
  const StepMemory memory;
  const at::Tensor mine = Large();
  at::Tensor others;
  const void* place = nullptr;
  std::thread([&] {
    const StepMemory inner;
    others = Large();
    place = others.data_ptr();
    EXPECT_NE(place, mine.data_ptr());
  }).join();
  others.fill_(1.0f);
  std::thread([tensor = std::move(others)]() mutable { tensor.reset(); }).join();
  EXPECT_EQ(mine.numel(), kFloats);
}

TEST(StepMemory, TheInnerOneServes) {
  const StepMemory outer;
  const void* place = Large().data_ptr();
  {
    const StepMemory inner;
    const at::Tensor held = Large();
    EXPECT_NE(held.data_ptr(), place);
  }
  EXPECT_EQ(Large().data_ptr(), place);
}

TEST(StepMemory, SmallOrMetaResultsAreTorchs) {
  const StepMemory memory;
  EXPECT_TRUE(EmptyResult({3, 4}, at::kFloat).storage().resizable());
  EXPECT_TRUE(EmptyResult({0}, at::kFloat).storage().resizable());
  EXPECT_FALSE(Large().storage().resizable()) << "of this memory";
  EXPECT_TRUE(EmptyResult({kFloats}, at::TensorOptions(at::kMeta).dtype(at::kFloat)).is_meta());
}

}  // namespace
}  // namespace xcomposer::ops
