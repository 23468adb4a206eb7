#include "checkpoint/pickle.h"
#include "fuzz/checkpoint_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  return fuzz::Run(data, size, [](std::span<const std::byte> bytes) {
    for (const PickledTensor& tensor : ReadPickledStateDict(bytes, "fuzz", fuzz::kLimits)) {
      fuzz::Promise(!tensor.name.empty() && !tensor.storage.empty());
      fuzz::Promise(tensor.shape.size() == tensor.strides.size());
      fuzz::Promise(tensor.offset >= 0 && tensor.storage_elements >= 0);
    }
  });
}
