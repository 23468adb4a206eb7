#include "utf8.h"

#include <nlohmann/json.hpp>

namespace xcomposer::cli {

void RequireUtf8(const std::string& text, ErrorKind kind, const std::string& name) {
  try {
    // The strict dump checks every byte.
    static_cast<void>(nlohmann::json(text).dump());
  } catch (const nlohmann::json::type_error&) {
    throw Error(kind, name + " is not valid UTF-8");
  }
}

}  // namespace xcomposer::cli
