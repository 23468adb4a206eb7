#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace xcomposer::cli {

/// Parses one JSON text from outside: at most 64 levels deep, no key twice in an object, every
/// number representable, valid UTF-8. Throws kRequest with the offset and what was wrong; `name` is
/// how the error calls the text.
nlohmann::json ParseStrictJson(std::string_view text, const std::string& name);

/// One line of JSON that is valid UTF-8 whatever the strings hold (broken bytes become U+FFFD).
std::string ToLine(const nlohmann::json& value);

}  // namespace xcomposer::cli
