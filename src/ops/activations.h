#pragma once

#include "kernels/cpu/activations.h"

namespace xcomposer::ops {

/// What ops on the CPU that this thread calls take activations for, until the scope ends.
class ActivationsScope {
 public:
  explicit ActivationsScope(cpu::Activations activations);
  ~ActivationsScope();
  ActivationsScope(const ActivationsScope&) = delete;
  ActivationsScope& operator=(const ActivationsScope&) = delete;

 private:
  cpu::Activations previous_;
};

/// Of the innermost scope of this thread; float32 without one.
cpu::Activations CurrentActivations();

}  // namespace xcomposer::ops
