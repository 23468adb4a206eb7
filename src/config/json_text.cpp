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
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text, guard);
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 7: ..."
    const std::string said = error.what();
    const size_t name = said.find("] ");
    throw Error(
        kind,
        StrCat(what, " is not JSON: ", name == std::string::npos ? said : said.substr(name + 2)));
  }
  Require(json.is_object(), kind, what, " is not a JSON object, found ", json.type_name());
  return json;
}

}  // namespace xcomposer
