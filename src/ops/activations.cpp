#include "ops/activations.h"

#include <utility>

namespace xcomposer::ops {
namespace {

thread_local cpu::Activations current = cpu::Activations::kFloat32;

}  // namespace

ActivationsScope::ActivationsScope(cpu::Activations activations)
    : previous_(std::exchange(current, activations)) {}

ActivationsScope::~ActivationsScope() { current = previous_; }

cpu::Activations CurrentActivations() { return current; }

}  // namespace xcomposer::ops
