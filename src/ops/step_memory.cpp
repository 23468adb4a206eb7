#include "ops/step_memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace xcomposer::ops {
namespace {

// What the C library serves from memory that it keeps anyway.
constexpr int64_t kLargeBytes = int64_t{128} << 10;

}  // namespace

class StepMemory::Blocks : public std::enable_shared_from_this<Blocks> {
 public:
  at::Tensor Empty(at::IntArrayRef shape, const at::TensorOptions& options, int64_t bytes) {
    at::Tensor block = Take(bytes);
    void* const memory = block.mutable_data_ptr();
    return at::from_blob(
        memory, shape,
        [blocks = shared_from_this(), block = std::move(block)](void*) { blocks->Give(block); },
        options);
  }

  void Close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
    free_.clear();
  }

 private:
  /// A block that wastes at most a quarter, or a new one.
  at::Tensor Take(int64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      auto best = free_.end();
      for (auto block = free_.begin(); block != free_.end(); ++block) {
        const int64_t size = block->numel();
        if (size < bytes || size - bytes > bytes / 4) continue;
        if (best == free_.end() || size < best->numel()) best = block;
      }
      if (best != free_.end()) {
        at::Tensor block = std::move(*best);
        free_.erase(best);
        return block;
      }
      while (!free_.empty() && total_ + bytes > most_) Drop();
      total_ += bytes;
      most_ = std::max(most_, total_);
    }
    try {
      return at::empty({bytes}, at::kByte);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      total_ -= bytes;
      throw;
    }
  }

  void Give(const at::Tensor& block) {
    const std::lock_guard lock(mutex_);
    if (open_) free_.push_back(block);
  }

  /// The largest of the free blocks.
  void Drop() {
    const auto largest = std::max_element(
        free_.begin(), free_.end(),
        [](const at::Tensor& a, const at::Tensor& b) { return a.numel() < b.numel(); });
    total_ -= largest->numel();
    free_.erase(largest);
  }

  std::mutex mutex_;
  std::vector<at::Tensor> free_;
  int64_t total_ = 0;  // bytes, free ones among them
  int64_t most_ = 0;
  bool open_ = true;
};

namespace {

thread_local StepMemory::Blocks* current_blocks = nullptr;

}  // namespace

StepMemory::StepMemory() : blocks_(std::make_shared<Blocks>()), outer_(current_blocks) {
  current_blocks = blocks_.get();
}

StepMemory::~StepMemory() {
  current_blocks = outer_;
  blocks_->Close();
}

at::Tensor EmptyResult(at::IntArrayRef shape, const at::TensorOptions& options) {
  const int64_t bytes =
      c10::multiply_integers(shape) * static_cast<int64_t>(options.dtype().itemsize());
  if (current_blocks == nullptr || bytes < kLargeBytes || !options.device().is_cpu()) {
    return at::empty(shape, options);
  }
  return current_blocks->Empty(shape, options, bytes);
}

}  // namespace xcomposer::ops
