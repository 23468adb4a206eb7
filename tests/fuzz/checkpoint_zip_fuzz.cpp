#include "checkpoint/zip_archive.h"
#include "fuzz/checkpoint_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  return fuzz::Run(data, size, [](std::span<const std::byte> bytes) {
    const ZipDirectory directory = ReadZipDirectory(bytes, "fuzz", fuzz::kLimits);
    for (const ZipMember& member : directory.members) {
      fuzz::Promise(directory.Find(member.name) == &member);
      fuzz::Promise(member.offset >= 0 && member.size >= 0);
      fuzz::Promise(member.offset + member.size <= static_cast<int64_t>(bytes.size()));
    }
  });
}
