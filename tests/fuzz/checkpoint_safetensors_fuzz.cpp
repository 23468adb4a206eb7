#include "checkpoint/safetensors.h"
#include "fuzz/checkpoint_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  return fuzz::Run(data, size, [](std::span<const std::byte> bytes) {
    fuzz::CheckTensors(ParseSafetensors(bytes, "fuzz", fuzz::kLimits).tensors, bytes);
  });
}
