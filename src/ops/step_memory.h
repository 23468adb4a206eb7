#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

namespace xcomposer::ops {

/// Memory of the host that the ops of one step hand on to each other. Without it every large result
/// is memory that the system clears page by page, and takes back a moment later: 3 to 4 % of a
/// prompt's time. Serves the thread that made it while it lives; it never holds more than what was
/// in use at once at most, and at its end gives back what is free.
class StepMemory {
 public:
  StepMemory();
  ~StepMemory();
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  class Blocks;

 private:
  std::shared_ptr<Blocks> blocks_;
  Blocks* outer_;
};

/// at::empty for the result of an op on the CPU, from the calling thread's StepMemory if it is
/// large. The tensor may outlive the StepMemory and be freed by any thread.
at::Tensor EmptyResult(at::IntArrayRef shape, const at::TensorOptions& options);

}  // namespace xcomposer::ops
