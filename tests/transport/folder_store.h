#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/check.h"
#include "transport/store.h"

namespace xcomposer {

/// A store between processes of one machine: a file per key.
class FolderStore : public Store {
 public:
  explicit FolderStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  void Set(const std::string& key, const std::string& value) override {
    const std::filesystem::path written = FileOf(StrCat(key, ".", getpid()));
    std::ofstream(written, std::ios::binary) << value;
    std::filesystem::rename(written, FileOf(key));  // readers see all of it or nothing
  }
  std::optional<std::string> TryGet(const std::string& key) override {
    std::ifstream in(FileOf(key), std::ios::binary);
    if (!in) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  int64_t Add(const std::string& key, int64_t amount) override {
    for (int64_t count = amount;; count += amount) {
      const std::filesystem::path file = FileOf(StrCat(key, "#", count));
      const int fd = open(file.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd < 0) continue;
      close(fd);
      return count;
    }
  }

 private:
  std::filesystem::path FileOf(std::string key) const {
    std::replace(key.begin(), key.end(), '/', '_');
    return folder_ / key;
  }

  const std::filesystem::path folder_;
};

/// An empty folder that goes with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "xcomposer-XXXXXX").string();
    Check(mkdtemp(name.data()) != nullptr, "no temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace xcomposer
