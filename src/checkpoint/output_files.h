#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "xcomposer/error.h"

namespace xcomposer {

/// Throws Error(kind) about a file or folder that is to be written: kUsage where the place is
/// wrong, kCapacity where the disk is full, kInternal where writing fails. The checkpoint that is
/// read has no part in it.
[[noreturn]] void CannotWrite(ErrorKind kind, const std::filesystem::path& file,
                              const std::string& why);

/// Keeps other processes from writing into the same folder. Throws kUsage where one does. File
/// systems without such locks have none.
class WriterLock {
 public:
  explicit WriterLock(const std::filesystem::path& directory);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  int descriptor_;
};

/// Files that get their names together: each is written under a temporary name, and Commit()
/// renames them in the order they were begun. Until then, and on destruction without Commit(),
/// nothing of the final names is touched and the temporary ones are removed. Errors are those of
/// CannotWrite.
class OutputFiles {
 public:
  OutputFiles() = default;
  OutputFiles(const OutputFiles&) = delete;
  OutputFiles& operator=(const OutputFiles&) = delete;
  ~OutputFiles();

  /// Starts a file that will be called `path`, after finishing the one before.
  void Begin(const std::filesystem::path& path);
  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text);

  /// Finishes the last file and renames all, or none.
  void Commit();

 private:
  struct Pending {
    std::filesystem::path temporary;
    std::filesystem::path path;
  };

  void Finish();

  std::vector<Pending> pending_;
  int descriptor_ = -1;  // of the last one
};

}  // namespace xcomposer
