#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/large_pages.h"
#include "checkpoint/fault.h"

namespace xcomposer {
namespace {

// Closes the descriptor unless it is released.
class Descriptor {
 public:
  // O_NONBLOCK: opening a named pipe must fail at the check below instead of waiting for a writer.
  explicit Descriptor(const std::string& path)
      : value_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  int value() const { return value_; }
  int Release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

/// Reads a byte of every page; the sum keeps the compiler from leaving the reads out.
void TouchPages(const std::byte* first, int64_t length, int64_t page) {
  volatile unsigned sum = 0;
  for (int64_t i = 0; i < length; i += page) sum = sum + static_cast<unsigned>(first[i]);
}

/// Has the system map all pages at once: half of the time of touching small ones that are in the
/// cache. 0, or why not: EINVAL where it cannot (before Linux 5.14).
int MapPages(const std::byte* first, int64_t length) {
#ifdef __linux__
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, which older headers lack
  while (madvise(const_cast<std::byte*>(first), static_cast<size_t>(length), kPopulateRead) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
#else
  static_cast<void>(first);
  static_cast<void>(length);
  return EINVAL;
#endif
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::Open(const std::filesystem::path& path) {
  const std::string name = path.string();
  const Place place{.file = name};
  Descriptor descriptor(name);
  if (descriptor.value() < 0) {
    Refuse(place, "the file cannot be opened: ", std::strerror(errno));
  }
  struct stat status = {};
  if (fstat(descriptor.value(), &status) != 0) {
    Refuse(place, "the file's size cannot be read: ", std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) Refuse(place, "this is not a regular file");
  const int64_t size = status.st_size;
  if (size == 0) Refuse(place, "the file is empty; was its download interrupted?");
  void* data =
      mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, descriptor.value(), 0);
  if (data == MAP_FAILED && errno == ENOMEM) {
    throw Error(ErrorKind::kCapacity,
                StrCat("no room in this process's memory to map ", name, " (", size, " bytes)"),
                {{"file", name}});
  }
  if (data == MAP_FAILED) {
    Refuse(place, "the file cannot be mapped (", size, " bytes): ", std::strerror(errno));
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, descriptor.Release(), static_cast<const std::byte*>(data), size));
}

MappedFile::MappedFile(std::filesystem::path path, int descriptor, const std::byte* data,
                       int64_t size)
    : path_(std::move(path)), descriptor_(descriptor), data_(data), size_(size) {}

MappedFile::~MappedFile() {
  munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
  close(descriptor_);
}

void MappedFile::Read(int64_t offset, std::span<std::byte> out) const {
  Check(offset >= 0 && offset <= size_ && out.size() <= static_cast<size_t>(size_ - offset),
        "a read of ", out.size(), " bytes at ", offset, " of ", size_);
  const std::string name = path_.string();
  while (!out.empty()) {
    const ssize_t got = pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    const Place place{.file = name, .offset = offset};
    if (got < 0) Refuse(place, "the file cannot be read: ", std::strerror(errno));
    if (got == 0) Refuse(place, "the file ends here, it had ", size_, " bytes when it was opened");
    out = out.subspan(static_cast<size_t>(got));
    offset += got;
  }
}

void MappedFile::Fetch(int64_t offset, int64_t length) const {
  Check(offset >= 0 && offset <= size_ && length >= 0 && length <= size_ - offset, "a fetch of ",
        length, " bytes at ", offset, " of ", size_);
  // Neighbours may lie in the same large page, and are fetched soon.
  constexpr int64_t kLargePage = int64_t{2} << 20;
  const int64_t large = offset / kLargePage * kLargePage;
  const int64_t large_end = (offset + length + kLargePage - 1) / kLargePage * kLargePage;
  AskForLargePages(const_cast<std::byte*>(data_) + large,
                   static_cast<size_t>(std::min(large_end, size_) - large));

  // From the end on, so that each large page is missed by itself. What the system reads ahead of a
  // read in small pages, as the header's is, are small pages too, and so on to the end of the file.
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = offset / page * page;
  for (int64_t end = offset + length; end > first;) {
    const int64_t at = std::max(first, (end - 1) / kLargePage * kLargePage);
    const int64_t count = end - at;
    const int problem = MapPages(data_ + at, count);
    // A read that fails, or lies behind the file's new end, would be answered with SIGBUS.
    if (problem == EFAULT) {
      Refuse(Place{.file = path_.string(), .offset = at}, count,
             " bytes cannot be read from here on; the file had ", size_,
             " bytes when it was opened");
    }
    if (problem != 0) TouchPages(data_ + at, count, page);
    end = at;
  }
}

}  // namespace xcomposer
