// The xcomposer command line. It uses the public headers only.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include "commands.h"
#include "exit_code.h"
#include "help_formatter.h"
#include "output.h"
#include "xcomposer/error.h"
#include "xcomposer/version.h"

namespace xcomposer::cli {
namespace {

// Else the first files to be opened would be the streams that were closed: a log line would go into
// a checkpoint that is being written, and chat would read its weights.
void OccupyStandardStreams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (fcntl(stream, F_GETFD) == 0 || errno != EBADF) continue;
    // The lowest free number is this one.
    if (open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY) != stream) _exit(1);
  }
}

// Whether errors of the command line itself should be JSON: it could not be parsed, so look for the
// word.
bool AsksForJson(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) return true;
  }
  // As the parser reads it; what is neither yes nor no asks for nothing.
  const char* asked = std::getenv("XCOMPOSER_JSON");
  bool yes = false;
  return asked != nullptr && CLI::detail::lexical_cast(std::string(asked), yes) && yes;
}

// The parser says of an unknown command only that one is missing.
std::string WhatIsWrong(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const bool names_one = argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty();
  const std::string what =
      names_one ? std::string("unknown command '") + argv[1] + "'" : error.what();
  return what + "; --help lists what there is";
}

int Run(const Chosen& chosen) {
  try {
    const int code = chosen.run();
    if (!std::cout.flush()) {
      std::cerr << "xcomposer: standard output could not be written\n";
      return kOtherFailure;
    }
    return code;
  } catch (const Error& error) {
    return Report(error, chosen.json);
  } catch (const std::bad_alloc&) {
    return Report(Error(ErrorKind::kCapacity, "out of memory"), chosen.json);
  } catch (const std::exception& error) {
    return Report(Error(ErrorKind::kInternal, error.what()), chosen.json);
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Answers questions about pictures with the InternLM-XComposer2 family", "xcomposer");
  app.set_version_flag("--version", std::string("xcomposer ") + Version());
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.footer(
      "Every option can also be set in the environment, as XCOMPOSER_<NAME>. Exit codes: 0 done,\n"
      "2 wrong usage, 3 bad input, 4 bad checkpoint, 5 does not fit or no such device, 6 a rank or "
      "the transport failed, 130 interrupted, 1 anything else.");
  Chosen chosen;
  AddGenerate(app, chosen);
  AddChat(app, chosen);
  AddTrace(app, chosen);
  AddTokenize(app, chosen);
  AddInspect(app, chosen);
  AddConvert(app, chosen);
  AddQuantize(app, chosen);
  AddDevices(app, chosen);
  AddPlan(app, chosen);
  AddBench(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return Report(Error(ErrorKind::kUsage, WhatIsWrong(app, error, argc, argv)),
                  AsksForJson(argc, argv));
  } catch (const Error& error) {
    return Report(error, AsksForJson(argc, argv));
  }
  return Run(chosen);
}

}  // namespace
}  // namespace xcomposer::cli

int main(int argc, char** argv) {
  xcomposer::cli::OccupyStandardStreams();
  return xcomposer::cli::Main(argc, argv);
}
