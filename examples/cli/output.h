#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "xcomposer/engine.h"
#include "xcomposer/error.h"

namespace xcomposer::cli {

/// {"kind", "message", "where"}
nlohmann::json ToJson(const Error& error);
nlohmann::json ToJson(const Result& result);
nlohmann::json ToJson(const std::vector<Placement>& placement);

/// Prints the error where it belongs, as JSON on stdout or for people on stderr, and gives the exit
/// code.
int Report(const Error& error, bool json);

/// Says on stderr what of the prompt the model did not see, if anything.
void WarnOfCutPrompt(const Result& result);

/// Writes one line of JSON to stdout.
void PrintLine(const nlohmann::json& value);

/// "vit, vision_proj, model.layers.0-31" per device, one line each.
std::string Describe(const std::vector<Placement>& placement);

/// Each stage with its parts and its bytes against the plan, and what was checked before pictures
/// and text were joined.
std::string Describe(const PlacementReport& report);
nlohmann::json ToJson(const PlacementReport& report);

/// Throws kUsage where the file to be written is one of those that are read.
void RequireNoneOf(const std::string& written, const std::vector<std::string>& read);

/// "1.5 GB"
std::string HumanBytes(int64_t bytes);

}  // namespace xcomposer::cli
