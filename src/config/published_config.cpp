#include "config/published_config.h"

#include <string>

#include "base/check.h"
#include "config/json_text.h"
#include "config/model_descriptions.h"
#include "nlohmann/json.hpp"

namespace xcomposer {

ModelConfig PublishedConfig(Kind kind) {
  const std::string file = StrCat("configs/models/", ToString(kind), ".json");
  const nlohmann::json description =
      ParseJsonObject(std::string(ModelDescriptionText(kind)), ErrorKind::kInternal, file);
  const auto config = description.find("published_config");
  Check(config != description.end() && config->is_object(), file, " has no published_config");
  return ParseConfig(config->dump(), std::nullopt, kind);
}

}  // namespace xcomposer
