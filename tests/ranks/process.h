#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace xcomposer::testing {

/// A program that runs beside the test and talks in lines. Killed at the end of the scope.
class Process {
 public:
  using Milliseconds = std::chrono::milliseconds;

  /// `arguments[0]` is the program. Both its outputs are read as one, or standard error goes to a
  /// file.
  explicit Process(const std::vector<std::string>& arguments,
                   const std::map<std::string, std::string>& environment = {},
                   const std::string& error_file = "");
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;

  void Send(const std::string& line);
  void Signal(int signal);

  /// The next line of its output, or nothing when the time is over or it has ended.
  std::optional<std::string> NextLine(Milliseconds patience);

  /// Lines until one starts with `word`; nothing when the time is over or it has ended.
  std::optional<std::string> LineWith(const std::string& word, Milliseconds patience);

  /// Whether it has printed anything, waited for.
  bool HasPrinted(Milliseconds patience);

  /// Its exit status, 128 + signal where a signal ended it; nothing when it runs on.
  std::optional<int> Wait(Milliseconds patience);

  /// Everything that was read of what it has printed so far.
  const std::string& transcript() const { return transcript_; }

 private:
  bool Read(Milliseconds patience);

  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  std::optional<int> status_;
  std::string unread_;
  std::string transcript_;
};

}  // namespace xcomposer::testing
