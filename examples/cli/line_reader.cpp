#include "line_reader.h"

#include <errno.h>
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
    std::array<char, 4096> chunk;
    const ssize_t got = read(STDIN_FILENO, chunk.data(), chunk.size());
    if (got > 0) {
      buffer_.append(chunk.data(), static_cast<size_t>(got));
    } else if (got < 0 && errno == EINTR) {
      if (!on_interrupt_()) return std::nullopt;
    } else if (got < 0) {
      throw Error(ErrorKind::kUsage,
                  std::string("standard input cannot be read: ") + std::strerror(errno));
    } else {
      ended_ = true;
    }
  }
}

}  // namespace xcomposer::cli
