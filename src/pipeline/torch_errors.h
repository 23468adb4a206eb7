#pragma once

#include <string>

namespace xcomposer {

/// Called inside a catch block: throws the exception at hand on as an xcomposer::Error. Ours pass
/// as they are; LibTorch's and the standard library's become kCapacity where memory ran out,
/// kDevice where CUDA failed, else kInternal.
[[noreturn]] void RethrowAsError(const std::string& doing);

/// Runs `work` and translates what it throws.
template <typename Work>
auto Translated(const std::string& doing, Work&& work) {
  try {
    return work();
  } catch (...) {
    RethrowAsError(doing);
  }
}

}  // namespace xcomposer
