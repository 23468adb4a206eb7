#include "placement/unique_keys.h"

#include <set>
#include <vector>

#include "base/check.h"
#include "config/json_text.h"
#include "nlohmann/json.hpp"

namespace xcomposer {

nlohmann::json ParseUniqueKeys(const std::string& text, const std::string& what) {
  ParseJsonObject(text, ErrorKind::kPlan, what);  // depth and form are right
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> open;
  const auto guard = [&](int, Event event, nlohmann::json& parsed) {
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    Require(event != Event::key || open.back().insert(parsed.get<std::string>()).second,
            ErrorKind::kPlan, what, " has the key ", parsed.dump(), " twice");
    return true;
  };
  return nlohmann::json::parse(text, guard);
}

}  // namespace xcomposer
