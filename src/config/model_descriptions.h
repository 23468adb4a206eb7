#pragma once

#include <string>
#include <string_view>

#include "config/model_config.h"

namespace xcomposer {

/// The text of configs/models/<kind>.json, built into the library.
std::string_view ModelDescription(Kind kind);

/// One entry of that file ("plora.wqkv.rank"). Throws kInternal where it is missing or has another
/// type.
int64_t DescribedInt(Kind kind, const std::string& key);
double DescribedNumber(Kind kind, const std::string& key);
bool DescribedBool(Kind kind, const std::string& key);

}  // namespace xcomposer
