#pragma once

#include <nlohmann/json.hpp>

#include "xcomposer/plan.h"

namespace xcomposer::cli {

/// The form that `plan --json` prints: the placement, or what is short and what would help.
nlohmann::ordered_json ToJson(const Plan& plan);

}  // namespace xcomposer::cli
