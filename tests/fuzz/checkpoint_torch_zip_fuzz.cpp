#include "checkpoint/torch_zip.h"
#include "fuzz/checkpoint_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  return fuzz::Run(data, size, [](std::span<const std::byte> bytes) {
    fuzz::CheckTensors(ReadTorchZip(bytes, "fuzz", fuzz::kLimits), bytes);
  });
}
