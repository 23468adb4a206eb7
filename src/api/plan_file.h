#pragma once

#include <cstdint>
#include <string>

#include "base/small_file.h"
#include "xcomposer/error.h"

namespace xcomposer::api {

/// What `parse` makes of the text of a device map or of a cluster's description. Every error names
/// the file; one that cannot be read is kPlan.
template <typename Parse>
auto FromPlanFile(const std::string& path, const Parse& parse) {
  constexpr int64_t kMaxBytes = int64_t{64} << 20;
  const std::string text = ReadSmallFile(path, kMaxBytes, ErrorKind::kPlan);
  try {
    return parse(text);
  } catch (const Error& error) {
    throw error.With("file", path);
  }
}

}  // namespace xcomposer::api
