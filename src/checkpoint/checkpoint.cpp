#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "checkpoint/fault.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/torch_zip.h"
#include "checkpoint/weight_files.h"

namespace xcomposer {
namespace {

// A clone without Git LFS leaves a few lines of text where a weight file belongs.
void RefusePointerFile(const MappedFile& file, std::string_view name) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  const std::string_view head(reinterpret_cast<const char*>(file.bytes().data()),
                              std::min(file.bytes().size(), kPointer.size()));
  if (head == kPointer) {
    Refuse({.file = name}, "this is a Git LFS pointer, not the weights; run \"git lfs pull\"");
  }
}

}  // namespace

const char* ToString(WeightFormat format) {
  return format == WeightFormat::kSafetensors ? "safetensors" : "torch";
}

Checkpoint Checkpoint::Open(const std::filesystem::path& directory, const OpenOptions& options) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const WeightFileChoice choice = ChooseWeightFiles(directory, options.limits);
  for (const std::string& name : choice.files) {
    const auto file = static_cast<int64_t>(checkpoint.files_.size());
    const std::filesystem::path path = directory / name;
    const std::string path_text = path.string();
    std::shared_ptr<const MappedFile> mapping = MappedFile::Open(path);
    RefusePointerFile(*mapping, path_text);
    std::vector<TensorEntry> tensors;
    if (choice.format == WeightFormat::kSafetensors) {
      SafetensorsHeader header = ParseSafetensors(mapping->bytes(), path_text, options.limits);
      tensors = std::move(header.tensors);
      checkpoint.metadata_.merge(header.metadata);
    } else {
      tensors = ReadTorchZip(mapping->bytes(), path_text, options.limits);
    }
    for (TensorEntry& tensor : tensors) tensor.file = file;
    std::move(tensors.begin(), tensors.end(), std::back_inserter(checkpoint.entries_));
    checkpoint.files_.push_back({path, mapping->size(), choice.format});
    checkpoint.mappings_.push_back(std::move(mapping));
  }
  if (choice.index) {
    RequireIndexed(choice.shard_index, choice.files, checkpoint.entries_,
                   (directory / *choice.index).string());
    if (auto note = TotalSizeNote(choice.shard_index, checkpoint.entries_)) {
      checkpoint.notes_.push_back(*std::move(note));
    }
  }
  std::sort(checkpoint.entries_.begin(), checkpoint.entries_.end(),
            [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
  return checkpoint;
}

const TensorEntry* Checkpoint::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), name,
      [](const TensorEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

std::span<const std::byte> Checkpoint::Bytes(const TensorEntry& entry) const {
  return Mapping(entry)->bytes().subspan(static_cast<size_t>(entry.offset),
                                         static_cast<size_t>(entry.byte_length));
}

std::shared_ptr<const MappedFile> Checkpoint::Mapping(const TensorEntry& entry) const {
  Check(entry.file >= 0 && entry.file < static_cast<int64_t>(mappings_.size()),
        "an entry of another checkpoint");
  return mappings_[static_cast<size_t>(entry.file)];
}

void Checkpoint::Fetch(const TensorEntry& entry) const {
  Mapping(entry)->Fetch(entry.offset, entry.byte_length);
}

}  // namespace xcomposer
