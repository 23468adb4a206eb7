#include "checkpoint/strict_json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace xcomposer {
namespace {

using Json = nlohmann::json;

// The callbacks that nlohmann::json::sax_parse asks for. Each returns true: refusals are
// exceptions.
class SaxHandler {
 public:
  SaxHandler(const Place& place, const JsonLimits& limits, JsonVisitor& visitor)
      : place_(place), limits_(limits), visitor_(visitor) {}

  bool null() { return Scalar(nullptr); }
  bool boolean(bool value) { return Scalar(value); }
  bool number_integer(int64_t value) { return Scalar(value); }
  bool number_unsigned(uint64_t value) {
    if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Scalar(static_cast<int64_t>(value));
    }
    return Scalar(static_cast<double>(value));
  }
  bool number_float(double value, const std::string&) { return Scalar(value); }
  bool string(std::string& value) { return Scalar(std::move(value)); }
  bool binary(Json::binary_t&) { Refuse(place_, "binary values are no JSON"); }

  bool start_object(size_t) {
    Open();
    keys_.emplace_back();
    visitor_.BeginObject(path_);
    // The key of the member that follows; replaced at each key.
    path_.emplace_back();
    return true;
  }
  bool key(std::string& name) {
    if (++open_keys_ > limits_.max_open_keys) {
      Refuse(place_, "more than ", limits_.max_open_keys, " keys in objects inside of each other");
    }
    if (!keys_.back().insert(name).second) {
      Refuse(place_, "the key ", Quoted(name), " occurs twice in one object");
    }
    path_.back() = std::move(name);
    return true;
  }
  bool end_object() {
    path_.pop_back();
    open_keys_ -= static_cast<int64_t>(keys_.back().size());
    keys_.pop_back();
    --depth_;
    visitor_.EndObject(path_);
    return true;
  }
  bool start_array(size_t) {
    Open();
    visitor_.BeginArray(path_);
    return true;
  }
  bool end_array() {
    --depth_;
    visitor_.EndArray(path_);
    return true;
  }
  bool parse_error(size_t position, const std::string& token, const Json::exception& error) {
    Place here = place_;
    here.offset = static_cast<int64_t>(position);
    // The parser's own words quote the text; only its reason, behind the colon, is wanted.
    const std::string_view text = error.what();
    Refuse(here, "this is not valid JSON near ", Quoted(token), ": ", Quoted(text));
  }

 private:
  void Open() {
    if (++depth_ > limits_.max_depth) {
      Refuse(place_, "JSON nested deeper than ", limits_.max_depth, " levels");
    }
  }
  bool Scalar(JsonScalar value) {
    visitor_.Value(path_, value);
    return true;
  }

  const Place& place_;
  const JsonLimits& limits_;
  JsonVisitor& visitor_;
  int64_t depth_ = 0;
  int64_t open_keys_ = 0;
  JsonPath path_;
  // A tree, not a hash table: colliding keys can be made, and would cost quadratic time.
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

void VisitJson(std::string_view text, const Place& place, const JsonLimits& limits,
               JsonVisitor& visitor) {
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    Place here = place;
    here.offset = static_cast<int64_t>(nul);
    Refuse(here, "a NUL byte inside JSON text");
  }
  SaxHandler handler(place, limits, visitor);
  Json::sax_parse(text.begin(), text.end(), &handler, nlohmann::detail::input_format_t::json, true,
                  false);
}

}  // namespace xcomposer
