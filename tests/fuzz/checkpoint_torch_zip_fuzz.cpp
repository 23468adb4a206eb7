#include "checkpoint/torch_zip.h"
#include "checkpoint/zip_maker.h"
#include "fuzz/checkpoint_fuzz.h"

// An input that starts as an archive is read as it is. Any other one becomes the pickle of a sound
// archive with two storages: random changes hardly ever keep an archive sound, and the views behind
// it would stay untried.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  std::string file(reinterpret_cast<const char*>(data), size);
  if (file.rfind("PK", 0) != 0) {
    file = testing_support::MakeZip(
        testing_support::TorchMembers(file, {std::string(8, 'a'), std::string(24, 'b')}));
  }
  return fuzz::Run(reinterpret_cast<const uint8_t*>(file.data()), file.size(),
                   [](std::span<const std::byte> bytes) {
                     fuzz::CheckTensors(ReadTorchZip(bytes, "fuzz", fuzz::kLimits), bytes);
                   });
}
