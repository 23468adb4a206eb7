#include "base/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace xcomposer {
namespace {

class Descriptor {
 public:
  // Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
  explicit Descriptor(const std::filesystem::path& file)
      : number_(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

}  // namespace

std::string ReadSmallFile(const std::filesystem::path& file, int64_t max_bytes, ErrorKind kind) {
  const auto refuse = [&](const std::string& why) {
    throw Error(kind, StrCat("cannot read ", file.string(), ": ", why), {{"file", file.string()}});
  };
  const Descriptor descriptor(file);
  if (descriptor.number() < 0) refuse(std::strerror(errno));
  struct stat status = {};
  if (fstat(descriptor.number(), &status) != 0) refuse(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse("this is not a regular file");
  if (status.st_size > max_bytes) {
    refuse(StrCat("it has ", status.st_size, " bytes; at most ", max_bytes, " are accepted"));
  }
  std::string content(static_cast<size_t>(status.st_size), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = read(descriptor.number(), content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(std::strerror(errno));
    if (got == 0) refuse("it became shorter while it was read");
    done += static_cast<size_t>(got);
  }
  return content;
}

}  // namespace xcomposer
