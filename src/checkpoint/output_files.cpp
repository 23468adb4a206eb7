#include "checkpoint/output_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

ErrorKind WriteFailure(int number) {
  return number == ENOSPC || number == EDQUOT ? ErrorKind::kCapacity : ErrorKind::kInternal;
}

}  // namespace

void CannotWrite(ErrorKind kind, const std::filesystem::path& file, const std::string& why) {
  throw Error(kind, StrCat(file.string(), ": ", why), {{"file", file.string()}});
}

WriterLock::WriterLock(const std::filesystem::path& directory)
    : descriptor_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0 || flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  close(descriptor_);
  CannotWrite(ErrorKind::kUsage, directory, "another process is writing into this folder");
}

WriterLock::~WriterLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

OutputFiles::~OutputFiles() {
  if (descriptor_ >= 0) close(descriptor_);
  for (const Pending& file : pending_) {
    std::error_code ignored;
    std::filesystem::remove(file.temporary, ignored);
  }
}

void OutputFiles::Begin(const std::filesystem::path& path) {
  Finish();
  std::filesystem::path temporary = path;
  temporary += ".partial";
  // A leftover of a run that was killed is replaced; O_NOFOLLOW keeps a planted link from being
  // written through.
  descriptor_ =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) {
    CannotWrite(ErrorKind::kUsage, temporary,
                StrCat("the file cannot be created: ", std::strerror(errno)));
  }
  pending_.push_back({std::move(temporary), path});
}

void OutputFiles::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      CannotWrite(WriteFailure(errno), pending_.back().path,
                  StrCat("writing failed: ", std::strerror(errno)));
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFiles::Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }

void OutputFiles::Finish() {
  if (descriptor_ < 0) return;
  // The data must be on disk before the name is: a crash must not leave a complete name on half a
  // file.
  const bool synced = fsync(descriptor_) == 0;
  const int reason = errno;
  const bool closed = close(std::exchange(descriptor_, -1)) == 0;
  if (synced && closed) return;
  const int failure = synced ? errno : reason;
  CannotWrite(WriteFailure(failure), pending_.back().path,
              StrCat("writing failed: ", std::strerror(failure)));
}

void OutputFiles::Commit() {
  Finish();
  for (size_t i = 0; i < pending_.size(); ++i) {
    std::error_code error;
    std::filesystem::rename(pending_[i].temporary, pending_[i].path, error);
    if (!error) continue;
    for (size_t done = 0; done < i; ++done) {
      std::error_code ignored;
      std::filesystem::remove(pending_[done].path, ignored);
    }
    CannotWrite(ErrorKind::kUsage, pending_[i].path, StrCat("renaming failed: ", error.message()));
  }
  pending_.clear();
}

}  // namespace xcomposer
