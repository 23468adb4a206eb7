#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/limits.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {

enum class WeightFormat { kSafetensors, kTorchZip };

/// "safetensors" or "torch".
const char* ToString(WeightFormat format);

/// One weight file of a checkpoint.
struct WeightFile {
  std::filesystem::path path;
  int64_t size = 0;  ///< bytes
  WeightFormat format = WeightFormat::kSafetensors;
};

struct OpenOptions {
  CheckpointLimits limits;
};

/// The weights of a directory in Hugging Face layout, opened without reading them: files are
/// mapped, only headers are touched. Const after opening, so several threads may use one object.
/// Copies share the mappings.
class Checkpoint {
 public:
  /// Finds the weight files as Hugging Face does (the first that is there): model.safetensors,
  /// model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json; then any one
  /// *.safetensors.index.json, *.safetensors or *.bin.index.json. Passed-over files are logged.
  /// Throws kCheckpoint where there are none or several to choose from, and for everything that the
  /// parsers and the index refuse; the error names file and tensor.
  static Checkpoint Open(const std::filesystem::path& directory, const OpenOptions& options = {});

  const std::filesystem::path& directory() const { return directory_; }
  const std::vector<TensorEntry>& entries() const { return entries_; }  ///< by name
  const std::vector<WeightFile>& files() const { return files_; }
  /// "__metadata__" of all safetensors files; the first file's word counts where they differ.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// What the files say wrongly without making the weights doubtful.
  const std::vector<std::string>& notes() const { return notes_; }

  /// The tensor `name`, or null where there is none.
  const TensorEntry* Find(std::string_view name) const;

  /// The bytes of `entry`, one of entries(), from its first to behind its last element; a strided
  /// tensor has other elements in between. Valid as long as Mapping(entry) lives.
  std::span<const std::byte> Bytes(const TensorEntry& entry) const;

  /// The mapping that holds `entry`, for views that outlive this object.
  std::shared_ptr<const MappedFile> Mapping(const TensorEntry& entry) const;

  /// Brings the tensor's bytes into memory: MappedFile::Fetch.
  void Fetch(const TensorEntry& entry) const;

 private:
  Checkpoint() = default;

  std::filesystem::path directory_;
  std::vector<TensorEntry> entries_;
  std::vector<WeightFile> files_;
  std::vector<std::shared_ptr<const MappedFile>> mappings_;  // as files_
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> notes_;
};

}  // namespace xcomposer
