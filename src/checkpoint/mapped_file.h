#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace xcomposer {

/// A regular file mapped read-only into memory. Pages are read when touched or fetched. Const after
/// construction, so several threads may read at once. The file must not be changed or shortened
/// while it is mapped: the system answers a read behind the new end with SIGBUS.
class MappedFile {
 public:
  /// Throws kCheckpoint where the file is missing, unreadable, empty or not a regular file.
  static std::shared_ptr<const MappedFile> Open(const std::filesystem::path& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }

  /// Copies the bytes from `offset` on without mapping their pages, which costs about as much as
  /// copying them: for those who read each byte once. Throws kCheckpoint where the file has become
  /// shorter or cannot be read.
  void Read(int64_t offset, std::span<std::byte> out) const;

  /// Brings `length` bytes from `offset` on into memory and maps their pages, in large ones where
  /// the system has these for files: for those who read the bytes from the mapping many times.
  /// Throws kCheckpoint where the file has become shorter or cannot be read, if the system tells
  /// (Linux 5.14); else the class comment holds.
  void Fetch(int64_t offset, int64_t length) const;

 private:
  MappedFile(std::filesystem::path path, int descriptor, const std::byte* data, int64_t size);

  std::filesystem::path path_;
  int descriptor_;
  const std::byte* data_;
  int64_t size_;
};

}  // namespace xcomposer
