#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <sstream>
#include <string>

#include "base/check.h"

namespace xcomposer {

/// A rank in a process of its own, which says what became of it in lines. To be started while the
/// test has no other threads.
class RankProcess {
 public:
  using Say = std::function<void(const std::string& line)>;

  explicit RankProcess(const std::function<void(const Say&)>& run) {
    int ends[2] = {-1, -1};
    Check(pipe(ends) == 0, "no pipe");
    pid_ = fork();
    Check(pid_ >= 0, "no process");
    if (pid_ == 0) {
      close(ends[0]);
      const auto say = [&](const std::string& line) {
        const std::string text = line + "\n";
        [[maybe_unused]] const ssize_t written = write(ends[1], text.data(), text.size());
      };
      try {
        run(say);
      } catch (const std::exception& error) {
        say(StrCat("threw ", error.what()));
      }
      _exit(0);
    }
    close(ends[1]);
    from_ = ends[0];
  }
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;
  ~RankProcess() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(from_);
  }

  void Signal(int number) const { kill(pid_, number); }

  /// The next line, or nothing where none comes in time or the process is gone.
  std::optional<std::string> Line(std::chrono::milliseconds patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (true) {
      const size_t end = text_.find('\n');
      if (end != std::string::npos) {
        std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return line;
      }
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      pollfd wait{from_, POLLIN, 0};
      if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) <= 0)
        return std::nullopt;
      char buffer[4096];
      const ssize_t count = read(from_, buffer, sizeof(buffer));
      if (count <= 0) return std::nullopt;
      text_.append(buffer, static_cast<size_t>(count));
    }
  }

 private:
  pid_t pid_ = -1;
  int from_ = -1;
  std::string text_;
};

}  // namespace xcomposer
