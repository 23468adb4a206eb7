#pragma once

#include <string>

#include "xcomposer/error.h"

namespace xcomposer::cli {

/// Throws an error of `kind` unless `text` is valid UTF-8; `name` says what the text is.
void RequireUtf8(const std::string& text, ErrorKind kind, const std::string& name);

}  // namespace xcomposer::cli
