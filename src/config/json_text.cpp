#include "config/json_text.h"

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace xcomposer {

nlohmann::json ParseJsonObject(const std::string& text, ErrorKind kind, const std::string& what) {
  constexpr int kMaxDepth = 32;
  const auto guard = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    Require(depth <= kMaxDepth, kind, what, " is nested deeper than ", kMaxDepth, " levels");
    return true;
  };
  nlohmann::json json = nlohmann::json::parse(text, guard, /*allow_exceptions=*/false);
  Require(!json.is_discarded() && json.is_object(), kind, what, " is not a JSON object");
  return json;
}

}  // namespace xcomposer
