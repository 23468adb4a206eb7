#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"

namespace xcomposer {

/// Where in a weight file something is wrong. Empty fields and a negative offset are left out.
struct Place {
  std::string_view file;
  std::string_view tensor = {};
  std::string_view part = {};  ///< the part of the file that was read: "header", "data.pkl" ...
  int64_t offset = -1;         ///< bytes from the start of the part
};

/// `text` in single quotes, cut after 200 bytes, every byte that is not printable ASCII or part of
/// valid UTF-8 written as \xNN: names out of hostile files must neither garble a terminal nor break
/// JSON output.
std::string Quoted(std::string_view text);

/// Throws Error(kCheckpoint) with `message` behind the place in words, and the place in where().
[[noreturn]] void RefuseText(const Place& place, const std::string& message);

/// RefuseText with its message joined from parts.
template <typename... Parts>
[[noreturn]] void Refuse(const Place& place, const Parts&... parts) {
  RefuseText(place, StrCat(parts...));
}

}  // namespace xcomposer
