#pragma once

#include <cstdint>
#include <memory>

namespace xcomposer {

/// Counts the bytes of tensors (of meta tensors where their allocator reports) that the calling
/// thread allocates and frees while it lives: what is alive now, and the most that was.
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

}  // namespace xcomposer
