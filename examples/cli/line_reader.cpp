#include "line_reader.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "xcomposer/error.h"

namespace xcomposer::cli {

std::optional<std::string> LineReader::Next() {
  while (true) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return line;
    }
    if (ended_) {
      if (buffer_.empty()) return std::nullopt;
      return std::exchange(buffer_, {});
    }
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    constexpr int kMilliseconds = 200;
    if (poll(&input, 1, kMilliseconds) <= 0) {  // nothing yet, or a signal
      if (!goes_on_()) return std::nullopt;
      continue;
    }
    std::array<char, 4096> chunk;
    const ssize_t got = read(STDIN_FILENO, chunk.data(), chunk.size());
    if (got > 0) {
      buffer_.append(chunk.data(), static_cast<size_t>(got));
    } else if (got < 0 && errno != EINTR) {
      throw Error(ErrorKind::kUsage,
                  std::string("standard input cannot be read: ") + std::strerror(errno));
    } else if (got == 0) {
      ended_ = true;
    }
  }
}

}  // namespace xcomposer::cli
