#include "config/model_descriptions.h"

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

nlohmann::json Entry(Kind kind, const std::string& key) {
  const auto json = nlohmann::json::parse(ModelDescription(kind), nullptr, false);
  Check(json.is_object() && json.contains("entries") && json["entries"].contains(key) &&
            json["entries"][key].contains("value"),
        "configs/models/", ToString(kind), ".json has no entry ", key);
  return json["entries"][key]["value"];
}

}  // namespace

int64_t DescribedInt(Kind kind, const std::string& key) {
  const nlohmann::json value = Entry(kind, key);
  Check(value.is_number_integer(), ToString(kind), ".json: ", key, " is not an integer");
  return value.get<int64_t>();
}

double DescribedNumber(Kind kind, const std::string& key) {
  const nlohmann::json value = Entry(kind, key);
  Check(value.is_number(), ToString(kind), ".json: ", key, " is not a number");
  return value.get<double>();
}

bool DescribedBool(Kind kind, const std::string& key) {
  const nlohmann::json value = Entry(kind, key);
  Check(value.is_boolean(), ToString(kind), ".json: ", key, " is not true or false");
  return value.get<bool>();
}

}  // namespace xcomposer
