#include "checkpoint/weight_files.h"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "checkpoint/fault.h"

namespace xcomposer {
namespace {

constexpr std::string_view kIndexEnd = ".index.json";

bool EndsWith(std::string_view name, std::string_view end) {
  return name.size() > end.size() && name.substr(name.size() - end.size()) == end;
}

// The names of the directory's entries, sorted. A dangling link is no file; what kind of file it
// is, is asked when it is opened.
std::set<std::string> FileNames(const std::filesystem::path& directory) {
  const std::string name = directory.string();
  const Place place{.file = name};
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(directory, error);
  if (!std::filesystem::exists(status)) Refuse(place, "there is no such directory");
  if (!std::filesystem::is_directory(status)) {
    Refuse(place,
           "this is not a directory; expected the directory that holds config.json and weights");
  }
  std::set<std::string> names;
  std::filesystem::directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code dangling;
    if (std::filesystem::exists(entry->path(), dangling)) {
      names.insert(entry->path().filename().string());
    }
  }
  if (error) Refuse(place, "the directory cannot be read: ", error.message());
  return names;
}

std::string Listed(const std::set<std::string>& names) {
  constexpr size_t kMost = 20;
  std::string text;
  size_t count = 0;
  for (const std::string& name : names) {
    if (++count > kMost) return StrCat(text, ", and ", names.size() - kMost, " more");
    text += StrCat(count == 1 ? "" : ", ", Quoted(name));
  }
  return text.empty() ? "nothing" : text;
}

std::string Choose(const std::filesystem::path& directory, const std::set<std::string>& names) {
  constexpr std::array<const char*, 4> kUsual = {
      "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
      "pytorch_model.bin.index.json"};
  for (const char* name : kUsual) {
    if (names.count(name) != 0) return name;
  }
  const std::string place = directory.string();
  for (const char* end : {".safetensors.index.json", ".safetensors", ".bin.index.json"}) {
    std::set<std::string> found;
    for (const std::string& name : names) {
      if (EndsWith(name, end)) found.insert(name);
    }
    if (found.size() == 1) return *found.begin();
    if (!found.empty()) {
      Refuse({.file = place}, "there are several *", end, " files (", Listed(found),
             ") and no index says how they belong together; expected one, or model", end);
    }
  }
  Refuse({.file = place},
         "no weights here: expected model.safetensors, pytorch_model.bin, or one of them "
         "in shards with its index; found ",
         Listed(names));
}

// Says which weights were passed over, so that nobody wonders which ones were loaded.
void LogPassedOver(const std::string& chosen, const std::set<std::string>& names) {
  for (const char* name :
       {"model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (chosen == name || names.count(name) == 0) continue;
    const bool index_of_chosen = chosen + std::string(kIndexEnd) == name;
    if (index_of_chosen) {
      log::Warn("using ", chosen, "; the index ", name, " beside it is ignored");
    } else {
      log::Info("using ", chosen, "; ", name, " beside it is ignored");
    }
  }
}

}  // namespace

WeightFileChoice ChooseWeightFiles(const std::filesystem::path& directory,
                                   const CheckpointLimits& limits) {
  const std::set<std::string> names = FileNames(directory);
  const std::string chosen = Choose(directory, names);
  LogPassedOver(chosen, names);
  WeightFileChoice choice;
  if (!EndsWith(chosen, kIndexEnd)) {
    choice.format = EndsWith(chosen, ".bin") ? WeightFormat::kTorchZip : WeightFormat::kSafetensors;
    choice.files = {chosen};
    return choice;
  }
  const bool torch = EndsWith(chosen, ".bin.index.json");
  choice.format = torch ? WeightFormat::kTorchZip : WeightFormat::kSafetensors;
  choice.index = chosen;
  const std::string path = (directory / chosen).string();
  const auto mapping = MappedFile::Open(directory / chosen);
  const auto bytes = mapping->bytes();
  choice.shard_index =
      ParseShardIndex({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path, limits);
  choice.files = choice.shard_index.Shards();
  std::set<std::string> missing;
  for (const std::string& shard : choice.files) {
    if (!EndsWith(shard, torch ? ".bin" : ".safetensors")) {
      Refuse({.file = path}, "the shard ", Quoted(shard), " is not of the format of its index");
    }
    if (names.count(shard) == 0) missing.insert(shard);
  }
  if (!missing.empty()) {
    Refuse({.file = path}, "the index names files that are not there: ", Listed(missing),
           "; download them into ", Quoted(directory.string()));
  }
  return choice;
}

}  // namespace xcomposer
