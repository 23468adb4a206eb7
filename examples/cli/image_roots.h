#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "xcomposer/image.h"

namespace xcomposer::cli {

/// The folders in which a request's pictures are looked for, in this order.
using ImageRoots = std::vector<std::filesystem::path>;

/// The file or folder that `name` means: itself where it is absolute, otherwise the first that
/// exists below a root. Throws kImage that lists the places and says `advice`, also for what is
/// neither file nor folder.
std::filesystem::path FindImage(const std::string& name, const ImageRoots& roots,
                                const std::string& advice = "--image-root adds a folder");

/// A file is a picture; a folder is a video.
ImageSource ImageAt(const std::filesystem::path& path);

}  // namespace xcomposer::cli
