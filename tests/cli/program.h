#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

// GoogleTest takes a JSON value for a container and would print it without end.
namespace nlohmann {
inline void PrintTo(const json& value, std::ostream* out) { *out << value.dump(); }
}  // namespace nlohmann

namespace xcomposer::testing {

struct ProgramInput {
  std::string text;                                ///< what it reads from standard input
  std::map<std::string, std::string> environment;  ///< all that is set for it, whatever the test's
  bool interrupt_at_first_output = false;          ///< Ctrl-C as soon as it has printed something
  bool terminate_at_first_output = false;          ///< SIGTERM likewise; standard input stays open
  std::vector<int> closed = {};                    ///< streams that it starts without
  bool terminal = false;                           ///< standard error is a terminal
  bool interrupt_when_handled = false;             ///< Ctrl-C as soon as that does not kill it
};

struct ProgramOutput {
  int exit_code = -1;  ///< 128 + signal where a signal ended it
  std::string out;
  std::string err;

  nlohmann::json Json() const { return nlohmann::json::parse(out); }
};

/// Runs the xcomposer command line of this build and waits for its end.
ProgramOutput RunProgram(const std::vector<std::string>& arguments, const ProgramInput& input = {});

/// A folder of this process's own, removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and gives its path.
  std::string Write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

}  // namespace xcomposer::testing
