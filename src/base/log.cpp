#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "xcomposer/log.h"

namespace xcomposer::log {
namespace {

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kTrace:
      return spdlog::level::trace;
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::warn;
}

// A logger of our own, so that a program that uses spdlog itself keeps its default logger.
spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto made = std::make_shared<spdlog::logger>("xcomposer", std::move(sink));
    made->set_pattern("%H:%M:%S %^%l%$ %v");
    made->set_level(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

}  // namespace

void SetLevel(Level level) { Logger().set_level(ToSpdlog(level)); }

Level ParseLevel(const std::string& name) {
  if (name == "trace") return Level::kTrace;
  if (name == "debug") return Level::kDebug;
  if (name == "info") return Level::kInfo;
  if (name == "warn" || name == "warning") return Level::kWarn;
  if (name == "error") return Level::kError;
  if (name == "off") return Level::kOff;
  throw Error(ErrorKind::kUsage, StrCat("unknown log level '", name,
                                        "'; expected trace, debug, info, warn, error or off"));
}

void Write(Level level, const std::string& message) { Logger().log(ToSpdlog(level), message); }

}  // namespace xcomposer::log

namespace xcomposer {

void SetLogLevel(const std::string& name) { log::SetLevel(log::ParseLevel(name)); }

}  // namespace xcomposer
