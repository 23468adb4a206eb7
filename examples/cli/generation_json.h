#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "xcomposer/request.h"

namespace xcomposer::cli {

/// Takes one of Hugging Face's generation settings into `options` and says whether `name` was one.
/// `key` is how errors call it. Throws kRequest for a wrong type, a value out of range, or a
/// setting that is known and not supported at that value.
bool ReadGenerationKey(const std::string& name, const std::string& key, const nlohmann::json& value,
                       GenerationOptions& options);

/// Keys of `generate` that describe the reference's run and have no meaning here.
bool IsIgnoredGenerationKey(const std::string& name);

}  // namespace xcomposer::cli
