#include "image_roots.h"

#include <system_error>

#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

namespace fs = std::filesystem;

// A pipe or a device could keep a reader for ever, so only files and folders count.
bool IsUsable(const fs::path& path, const std::string& name) {
  std::error_code failed;
  const fs::file_status status = fs::status(path, failed);
  if (!fs::exists(status)) return false;
  if (fs::is_regular_file(status) || fs::is_directory(status)) return true;
  throw Error(ErrorKind::kImage,
              "picture '" + name +
                  "': expected a file or a folder of frames, found "
                  "something else (a device, a pipe or a socket)",
              {{"file", path.string()}});
}

}  // namespace

fs::path FindImage(const std::string& name, const ImageRoots& roots, const std::string& advice) {
  if (name.empty() || name.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kImage, "a picture's name is empty or holds a NUL character");
  }
  const fs::path given(name);
  if (given.is_absolute()) {
    if (IsUsable(given, name)) return given;
    throw Error(ErrorKind::kImage, "picture '" + name + "' was not found", {{"file", name}});
  }
  std::string places;
  for (const fs::path& root : roots) {
    const fs::path candidate = root / given;
    if (IsUsable(candidate, name)) return candidate;
    places += (places.empty() ? "" : ", ") + (root.empty() ? std::string(".") : root.string());
  }
  throw Error(
      ErrorKind::kImage,
      "picture '" + name + "' was not found in: " + places + (advice.empty() ? "" : "; " + advice),
      {{"file", name}});
}

ImageSource ImageAt(const fs::path& path) {
  if (fs::is_directory(path)) return VideoFolder{path.string()};
  return ImageFile{path.string()};
}

}  // namespace xcomposer::cli
