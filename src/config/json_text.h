#pragma once

#include <string>

#include "nlohmann/json_fwd.hpp"
#include "xcomposer/error.h"

namespace xcomposer {

/// The JSON object in `text`, for files that people write. Throws Error(kind) saying that `what` is
/// no JSON (and where it ceases to be) or no object, or that it is nested deeper than any of these
/// files (which would overflow the stack when it is printed).
nlohmann::json ParseJsonObject(const std::string& text, ErrorKind kind, const std::string& what);

}  // namespace xcomposer
