#pragma once

#include <string>

#include "xcomposer/export.h"

namespace xcomposer {

/// Sets what the library writes to stderr: "trace", "debug", "info", "warn" (the default), "error"
/// or "off". The level belongs to the process; may be called from any thread. Throws kUsage for
/// another name.
XCOMPOSER_API void SetLogLevel(const std::string& name);

}  // namespace xcomposer
