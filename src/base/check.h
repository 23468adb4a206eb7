#pragma once

#include <sstream>
#include <string>

#include "xcomposer/error.h"

namespace xcomposer {

/// Joins its arguments as an ostream would print them.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws Error(kind, message) unless `condition` holds; for states that outside input can cause.
template <typename... Parts>
void Require(bool condition, ErrorKind kind, const Parts&... message) {
  if (!condition) throw Error(kind, StrCat(message...));
}

/// Throws Error(kInternal) unless `condition` holds; for promises between our own parts.
template <typename... Parts>
void Check(bool condition, const Parts&... message) {
  if (!condition) throw Error(ErrorKind::kInternal, StrCat("internal check failed: ", message...));
}

}  // namespace xcomposer
