#include "checkpoint/fingerprint.h"

#include <algorithm>

#include "base/sha256.h"
#include "checkpoint/mapped_file.h"

namespace xcomposer {
namespace {

constexpr int64_t kSample = 64 << 10;
constexpr size_t kPiece = 1 << 20;

void AddSamples(std::span<const std::byte> bytes, Sha256Hasher& hasher) {
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t length = std::min(kSample, size);
  for (const int64_t first : {int64_t{0}, (size - length) / 2, size - length}) {
    hasher.Add(bytes.subspan(static_cast<size_t>(first), static_cast<size_t>(length)));
  }
}

}  // namespace

std::string WeightFingerprint(const Checkpoint& checkpoint) {
  Sha256Hasher hasher;
  std::vector<std::shared_ptr<const MappedFile>> mappings(checkpoint.files().size());
  for (const TensorEntry& entry : checkpoint.entries()) {
    hasher.AddNumber(entry.name.size());
    hasher.Add(entry.name);
    hasher.AddNumber(static_cast<uint64_t>(entry.dtype));
    hasher.AddNumber(entry.shape.size());
    for (const int64_t extent : entry.shape) hasher.AddNumber(static_cast<uint64_t>(extent));
    hasher.AddNumber(static_cast<uint64_t>(entry.file));
    hasher.AddNumber(static_cast<uint64_t>(entry.offset));
    mappings[static_cast<size_t>(entry.file)] = checkpoint.Mapping(entry);
  }
  for (size_t i = 0; i < mappings.size(); ++i) {
    hasher.AddNumber(static_cast<uint64_t>(checkpoint.files()[i].size));
    if (mappings[i] != nullptr) AddSamples(mappings[i]->bytes(), hasher);
  }
  return hasher.Finish();
}

std::string FileHash(const std::filesystem::path& file,
                     const std::function<void(int64_t bytes)>& progress) {
  const auto mapping = MappedFile::Open(file);
  Sha256Hasher hasher;
  const std::span<const std::byte> bytes = mapping->bytes();
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    hasher.Add(bytes.subspan(at, std::min(kPiece, bytes.size() - at)));
    if (progress) progress(static_cast<int64_t>(std::min(at + kPiece, bytes.size())));
  }
  return hasher.Finish();
}

}  // namespace xcomposer
