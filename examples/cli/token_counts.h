#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace xcomposer::cli {

/// "128,512" -> 128 and 512; "none" -> nothing. Throws kUsage that names `option` for anything else
/// than numbers from 1 to 2^20.
std::vector<int64_t> ParseTokenCounts(const std::string& option, const std::string& text);

}  // namespace xcomposer::cli
