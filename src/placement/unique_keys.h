#pragma once

#include <string>

#include "nlohmann/json_fwd.hpp"

namespace xcomposer {

/// The JSON object of a file that people write by hand; `what` names it in errors. A key that
/// stands twice in an object is refused: one of the two would be lost. Throws kPlan.
nlohmann::json ParseUniqueKeys(const std::string& text, const std::string& what);

}  // namespace xcomposer
