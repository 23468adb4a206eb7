#include "strict_json.h"

#include <set>
#include <vector>

#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

constexpr int kMaxDepth = 64;

// Watches the parser's events, since a finished document no longer shows that a key came twice.
class Watcher {
 public:
  explicit Watcher(const std::string& name) : name_(name) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Parse = nlohmann::json::parse_event_t;
    if (event == Parse::object_start || event == Parse::array_start) {
      if (depth >= kMaxDepth) {
        throw Error(ErrorKind::kRequest,
                    name_ + ": nested deeper than " + std::to_string(kMaxDepth) + " levels");
      }
      keys_.emplace_back();
    } else if (event == Parse::object_end || event == Parse::array_end) {
      keys_.pop_back();
    } else if (event == Parse::key) {
      const std::string key = parsed.get<std::string>();
      if (!keys_.back().insert(key).second) {
        throw Error(ErrorKind::kRequest,
                    name_ + ": the key '" + key + "' stands twice in one object", {{"key", key}});
      }
    }
    return true;
  }

 private:
  std::string name_;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

nlohmann::json ParseStrictJson(std::string_view text, const std::string& name) {
  try {
    return nlohmann::json::parse(text.begin(), text.end(), Watcher(name));
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(ErrorKind::kRequest, name + ": not JSON: " + error.what(),
                {{"offset", std::to_string(error.byte)}});
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::kRequest, name + ": " + error.what());
  }
}

std::string ToLine(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace xcomposer::cli
