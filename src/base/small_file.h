#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "xcomposer/error.h"

namespace xcomposer {

/// The whole content of a regular file of at most `max_bytes`, for files that are read at once.
/// Devices and pipes could block or never end, so they are refused without waiting for them.
/// Throws Error(kind) with the file's path where it is missing, something else than a file,
/// unreadable or too large.
std::string ReadSmallFile(const std::filesystem::path& file, int64_t max_bytes, ErrorKind kind);

}  // namespace xcomposer
