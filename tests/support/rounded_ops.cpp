#include "support/rounded_ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <set>
#include <string>

namespace xcomposer {
namespace {

constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

void Round(at::Tensor t) { t.copy_(t.to(at::kHalf)); }

/// A product's input is rounded where it is float32 still: features of a picture.
at::Tensor Rounded(const at::Tensor& t) { return t.to(at::kHalf).to(at::kFloat); }

void RunRounded(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(kKey);
  const std::string name = op.schema().name().substr(std::string("xcomposer::").size());
  const auto first = static_cast<int64_t>(stack->size() - op.schema().arguments().size());
  const auto argument = [&](int64_t i) { return (*stack)[static_cast<size_t>(first + i)]; };
  if (name == "linear" || name == "linear_float") {
    (*stack)[static_cast<size_t>(first)] = Rounded(argument(0).toTensor());
  }
  std::vector<at::Tensor> changed;
  if (name.back() == '_') changed.push_back(argument(0).toTensor());
  if (name == "rope_kv") changed = {argument(3).toTensor(), argument(4).toTensor()};
  op.callBoxed(stack);
  for (const at::Tensor& t : changed) Round(t);
  if (name.back() != '_' && name != "linear_float") Round(stack->back().toTensor());
}

}  // namespace

RoundedOps::RoundedOps() : guard_(kKey) {}

}  // namespace xcomposer

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(xcomposer, TESTING_ONLY_GenericMode, m) {
  // All others give float32 on CUDA too, or are made of these; low-rank parts go to either kind of
  // rows, and are left as they are.
  for (const char* name :
       {"linear", "linear_float", "rms_norm", "layer_norm", "quick_gelu_", "gelu_", "silu_mul_",
        "rope_kv", "paged_attention", "vision_attention"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&xcomposer::RunRounded>());
  }
}
