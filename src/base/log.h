#pragma once

#include <string>

#include "base/check.h"

/// Logging to stderr. spdlog stays behind this header: its formatting library and the one that
/// LibTorch ships cannot meet in one translation unit.
namespace xcomposer::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError, kOff };

/// Sets the level of the whole process; the default is kWarn. Throws kUsage for an unknown name.
void SetLevel(Level level);
Level ParseLevel(const std::string& name);

void Write(Level level, const std::string& message);

template <typename... Parts>
void Debug(const Parts&... parts) {
  Write(Level::kDebug, StrCat(parts...));
}
template <typename... Parts>
void Info(const Parts&... parts) {
  Write(Level::kInfo, StrCat(parts...));
}
template <typename... Parts>
void Warn(const Parts&... parts) {
  Write(Level::kWarn, StrCat(parts...));
}

}  // namespace xcomposer::log
