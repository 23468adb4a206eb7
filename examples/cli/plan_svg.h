#pragma once

#include <string>

#include "xcomposer/plan.h"

namespace xcomposer::cli {

/// A picture of the placement: a row per stage with its parts, its memory by cause against the
/// budget, and its share of the time.
std::string ToSvg(const Plan& plan);

}  // namespace xcomposer::cli
