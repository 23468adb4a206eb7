#include "ranks/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>
#include <thread>
#include <utility>

#include "support/child_environment.h"

namespace xcomposer::testing {
namespace {

using std::chrono::steady_clock;

[[noreturn]] void Become(const std::vector<std::string>& arguments,
                         const std::map<std::string, std::string>& environment, int in, int out,
                         int error) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // nothing outlives a test that was killed itself
  signal(SIGPIPE, SIG_DFL);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  EnterEnvironment(environment);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  _exit(127);
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments,
                 const std::map<std::string, std::string>& environment,
                 const std::string& error_file) {
  signal(SIGPIPE, SIG_IGN);
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe2 failed");
  }
  const int error = error_file.empty()
                        ? out[1]
                        : open(error_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (error < 0) throw std::runtime_error("cannot write " + error_file);
  pid_ = fork();
  if (pid_ == 0) Become(arguments, environment, in[0], out[1], error);
  if (error != out[1]) close(error);
  close(in[0]);
  close(out[1]);
  in_ = in[1];
  out_ = out[0];
  if (pid_ < 0) throw std::runtime_error("fork failed");
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      in_(std::exchange(other.in_, -1)),
      out_(std::exchange(other.out_, -1)),
      status_(other.status_),
      unread_(std::move(other.unread_)),
      transcript_(std::move(other.transcript_)) {}

Process::~Process() {
  if (pid_ > 0 && !status_) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (in_ >= 0) close(in_);
  if (out_ >= 0) close(out_);
}

void Process::Send(const std::string& line) {
  const std::string text = line + "\n";
  // A process that has ended cannot read; the test will find out by itself.
  if (write(in_, text.data(), text.size()) < 0) return;
}

void Process::Signal(int signal) {
  if (!status_) kill(pid_, signal);
}

bool Process::Read(Milliseconds patience) {
  pollfd end = {out_, POLLIN, 0};
  if (poll(&end, 1, static_cast<int>(std::max<int64_t>(0, patience.count()))) <= 0) return false;
  std::array<char, 4096> chunk;
  const ssize_t got = read(out_, chunk.data(), chunk.size());
  if (got <= 0) return false;
  unread_.append(chunk.data(), static_cast<size_t>(got));
  transcript_.append(chunk.data(), static_cast<size_t>(got));
  return true;
}

std::optional<std::string> Process::NextLine(Milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  for (;;) {
    if (const size_t end = unread_.find('\n'); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::ceil<Milliseconds>(until - steady_clock::now());
    if (left.count() <= 0 || !Read(left)) return std::nullopt;
  }
}

std::optional<std::string> Process::LineWith(const std::string& word, Milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  for (;;) {
    const auto left = std::chrono::ceil<Milliseconds>(until - steady_clock::now());
    std::optional<std::string> line = NextLine(left);
    if (!line || line->rfind(word, 0) == 0) return line;
  }
}

bool Process::HasPrinted(Milliseconds patience) { return !transcript_.empty() || Read(patience); }

std::optional<int> Process::Wait(Milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  while (!status_) {
    while (Read(Milliseconds(0))) {
    }
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (steady_clock::now() >= until) {
      return std::nullopt;
    } else {
      std::this_thread::sleep_for(Milliseconds(5));
    }
  }
  while (Read(Milliseconds(0))) {
  }
  return status_;
}

}  // namespace xcomposer::testing
