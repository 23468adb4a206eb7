#include "config/model_descriptions.h"

#include "base/check.h"
#include "config/json_text.h"
#include "nlohmann/json.hpp"

namespace xcomposer {

ModelDescription::ModelDescription(Kind kind)
    : file_(StrCat("configs/models/", ToString(kind), ".json")),
      json_(std::make_shared<nlohmann::json>(
          ParseJsonObject(std::string(ModelDescriptionText(kind)), ErrorKind::kInternal, file_))) {}

const nlohmann::json& ModelDescription::Value(const std::string& key) const {
  const auto entries = json_->find("entries");
  Check(entries != json_->end() && entries->contains(key) && (*entries)[key].contains("value"),
        file_, " has no entry ", key);
  return (*entries)[key]["value"];
}

int64_t ModelDescription::Int(const std::string& key) const {
  Check(Value(key).is_number_integer(), file_, ": ", key, " is not an integer");
  return Value(key).get<int64_t>();
}

double ModelDescription::Number(const std::string& key) const {
  Check(Value(key).is_number(), file_, ": ", key, " is not a number");
  return Value(key).get<double>();
}

bool ModelDescription::Bool(const std::string& key) const {
  Check(Value(key).is_boolean(), file_, ": ", key, " is not true or false");
  return Value(key).get<bool>();
}

}  // namespace xcomposer
