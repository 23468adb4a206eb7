#include "cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "support/child_environment.h"

namespace xcomposer::testing {
namespace {

struct Pipe {
  int read_end = -1;
  int write_end = -1;

  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  void CloseRead() { Close(read_end); }
  void CloseWrite() { Close(write_end); }

 private:
  static void Close(int& end) {
    if (end >= 0) close(end);
    end = -1;
  }
};

// A terminal in place of the pipe: written to at its one end, read at the other.
void UseTerminal(Pipe& pipe) {
  pipe.CloseRead();
  pipe.CloseWrite();
  pipe.read_end = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (pipe.read_end < 0 || grantpt(pipe.read_end) != 0 || unlockpt(pipe.read_end) != 0) {
    throw std::runtime_error("there is no terminal to be had");
  }
  pipe.write_end = open(ptsname(pipe.read_end), O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (pipe.write_end < 0) throw std::runtime_error("the terminal cannot be opened");
}

[[noreturn]] void Become(const std::vector<std::string>& arguments, const ProgramInput& input,
                         int in, int out, int err) {
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  for (const int stream : input.closed) close(stream);
  EnterEnvironment(input.environment);
  std::vector<char*> argv;
  std::string program = XCOMPOSER_PROGRAM;
  argv.push_back(program.data());
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  _exit(127);
}

// Reads what is there; false at the end of the stream.
bool Drain(int end, std::string& text) {
  std::array<char, 65536> chunk;
  const ssize_t got = read(end, chunk.data(), chunk.size());
  if (got > 0) text.append(chunk.data(), static_cast<size_t>(got));
  return got > 0 || (got < 0 && errno == EINTR);
}

// Whether the process handles SIGINT, as the kernel tells it: a mask of signals in hexadecimal.
bool HandlesInterrupt(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  const std::string key = "SigCgt:";
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    return (std::stoull(line.substr(key.size()), nullptr, 16) >> (SIGINT - 1) & 1) != 0;
  }
  return false;
}

void Exchange(const ProgramInput& input, pid_t child, Pipe& in, Pipe& out, Pipe& err,
              ProgramOutput& output) {
  size_t sent = 0;
  bool interrupted = false;
  const bool stays_open = input.terminate_at_first_output;
  if (input.text.empty() && !stays_open) in.CloseWrite();
  while (out.read_end >= 0 || err.read_end >= 0) {
    const bool sends = sent < input.text.size();
    std::array<pollfd, 3> ends = {pollfd{sends ? in.write_end : -1, POLLOUT, 0},
                                  pollfd{out.read_end, POLLIN, 0}, pollfd{err.read_end, POLLIN, 0}};
    const bool looks = input.interrupt_when_handled && !interrupted;
    const int found = poll(ends.data(), ends.size(), looks ? 1 : -1);
    if (looks && HandlesInterrupt(child)) {
      kill(child, SIGINT);
      interrupted = true;
    }
    if (found < 0) continue;
    if (ends[0].revents != 0) {
      const ssize_t wrote = write(in.write_end, input.text.data() + sent,
                                  std::min<size_t>(input.text.size() - sent, 4096));
      if (wrote > 0) sent += static_cast<size_t>(wrote);
      if (wrote < 0 || (sent == input.text.size() && !stays_open)) in.CloseWrite();
    }
    if (ends[1].revents != 0 && !Drain(out.read_end, output.out)) out.CloseRead();
    if (ends[2].revents != 0 && !Drain(err.read_end, output.err)) err.CloseRead();
    const bool asked = input.interrupt_at_first_output || input.terminate_at_first_output;
    if (asked && !output.out.empty() && !interrupted) {
      kill(child, input.terminate_at_first_output ? SIGTERM : SIGINT);
      interrupted = true;
    }
  }
}

}  // namespace

ProgramOutput RunProgram(const std::vector<std::string>& arguments, const ProgramInput& input) {
  signal(SIGPIPE, SIG_IGN);
  Pipe in, out, err;
  if (input.terminal) UseTerminal(err);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGPIPE, SIG_DFL);
    Become(arguments, input, in.read_end, out.write_end, err.write_end);
  }
  if (child < 0) throw std::runtime_error("fork failed");
  in.CloseRead();
  out.CloseWrite();
  err.CloseWrite();
  ProgramOutput output;
  Exchange(input, child, in, out, err, output);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "xcomposer_test_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::Write(const std::string& name, const std::string& content) const {
  std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  return path_ + "/" + name;
}

}  // namespace xcomposer::testing
