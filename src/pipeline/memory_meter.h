#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "batch/executor.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// Counts the bytes of CPU tensors (and of meta tensors, where their allocator reports) that the
/// calling thread allocates and frees while it lives: what is alive now, and the most that was.
/// Memory that existed before counts as zero, and freeing it as negative. Scopes of one thread
/// nest: the inner one counts, and hands its balance on to the outer one at its end.
class AllocationScope {
 public:
  AllocationScope();
  ~AllocationScope();
  AllocationScope(const AllocationScope&) = delete;
  AllocationScope& operator=(const AllocationScope&) = delete;

  int64_t alive() const;
  int64_t peak() const;

 private:
  struct Counter;
  struct Guard;
  std::shared_ptr<Counter> counter_;
  std::unique_ptr<Guard> guard_;
};

/// Hands weights on and counts their bytes, mapped ones too.
class MeteredWeights final : public WeightSource {
 public:
  explicit MeteredWeights(WeightSource& source) : source_(source) {}

  int64_t bytes() const { return bytes_; }

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;

  WeightSource& source_;
  int64_t bytes_ = 0;
};

}  // namespace xcomposer
