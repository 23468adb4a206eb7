#include "api/model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <vector>

#include "base/check.h"
#include "base/small_file.h"

namespace xcomposer::api {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxRefBytes = 1 << 10;

std::optional<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<fs::path> HubCache() {
  if (auto cache = Environment("HF_HUB_CACHE")) return fs::path(*cache);
  if (auto home = Environment("HF_HOME")) return fs::path(*home) / "hub";
  if (auto cache = Environment("XDG_CACHE_HOME")) return fs::path(*cache) / "huggingface" / "hub";
  if (auto home = Environment("HOME")) return fs::path(*home) / ".cache" / "huggingface" / "hub";
  return std::nullopt;
}

// organisation/name and nothing else: the parts become a folder name.
bool IsRepositoryId(const std::string& model) {
  const auto slash = model.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == model.size()) return false;
  if (model.find('/', slash + 1) != std::string::npos || model.find("..") != std::string::npos) {
    return false;
  }
  const std::string allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
  return model.find_first_not_of(allowed) == std::string::npos;
}

std::string NamesOf(std::vector<fs::path> folders) {
  constexpr size_t kMost = 8;
  std::sort(folders.begin(), folders.end());
  std::string names;
  for (size_t i = 0; i < std::min(kMost, folders.size()); ++i) {
    names += (i == 0 ? "" : ", ") + folders[i].filename().string();
  }
  if (folders.size() > kMost) names += StrCat(" and ", folders.size() - kMost, " more");
  return names;
}

// The snapshot that refs/main names; without that file, the only snapshot there is. Throws
// kCheckpoint where there are several and nothing says which.
std::optional<fs::path> Snapshot(const std::string& model, const fs::path& repository) {
  std::error_code error;
  if (const fs::path ref = repository / "refs" / "main"; fs::exists(ref, error)) {
    std::string revision;
    std::istringstream(ReadSmallFile(ref, kMaxRefBytes, ErrorKind::kCheckpoint)) >> revision;
    const fs::path folder = repository / "snapshots" / revision;
    const bool plain = !revision.empty() && revision.find('/') == std::string::npos &&
                       revision.find("..") == std::string::npos;
    if (plain && fs::is_directory(folder, error)) return folder;
  }
  std::vector<fs::path> snapshots;
  for (fs::directory_iterator it(repository / "snapshots", error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory(error)) snapshots.push_back(it->path());
  }
  if (snapshots.empty()) return std::nullopt;
  Require(snapshots.size() == 1, ErrorKind::kCheckpoint, "of '", model, "' there are ",
          snapshots.size(), " snapshots in ", (repository / "snapshots").string(), " (",
          NamesOf(snapshots),
          ") and refs/main names none of them; give the folder of one as the model (--model)");
  return snapshots.front();
}

}  // namespace

fs::path FindModelFolder(const std::string& model) {
  std::error_code error;
  Require(!model.empty(), ErrorKind::kUsage, "no model was given; expected a checkpoint folder");
  if (fs::is_directory(model, error)) return model;

  std::string looked = StrCat("no folder '", model, "'");
  if (fs::exists(model, error)) {
    looked = StrCat("'", model, "' is not a folder");
  } else if (IsRepositoryId(model)) {
    if (const auto cache = HubCache()) {
      std::string name = model;
      name.replace(name.find('/'), 1, "--");
      const fs::path repository = *cache / ("models--" + name);
      if (auto snapshot = Snapshot(model, repository)) return *snapshot;
      looked += StrCat(", and no snapshot of that repository in ", repository.string());
    }
  }
  throw Error(ErrorKind::kCheckpoint,
              StrCat(looked,
                     "; expected a checkpoint folder with config.json, or the id of a Hugging Face "
                     "repository that is in the local cache (nothing is downloaded)"),
              {{"model", model}});
}

}  // namespace xcomposer::api
