#include "checkpoint/safetensors_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "base/checked_math.h"
#include "base/log.h"
#include "checkpoint/limits.h"
#include "checkpoint/output_files.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr size_t kLine = 64;
constexpr size_t kPrefix = 8;  // bytes of the header's length

struct PlannedTensor {
  const TensorSource* source = nullptr;
  int64_t bytes = 0;
};
using Shard = std::vector<PlannedTensor>;

struct ShardPlan {
  std::vector<Shard> shards;
  int64_t bytes = 0;
};

ShardPlan PlanShards(const std::vector<TensorSource>& sources, const std::string& directory,
                     int64_t max_shard_bytes) {
  ShardPlan plan;
  plan.shards.emplace_back();
  int64_t shard_bytes = 0;
  std::set<std::string_view> names;
  for (const TensorSource& source : sources) {
    RequireTensorName(source.name, {.file = directory});
    const Place place{.file = directory, .tensor = source.name};
    if (source.name == "__metadata__" || !names.insert(source.name).second) {
      Refuse(place, "the name is reserved or occurs twice");
    }
    const std::optional<int64_t> count = ElementCount(source.shape);
    const auto bytes = count ? CheckedMul(*count, SizeOf(source.dtype)) : std::nullopt;
    const auto total = bytes ? CheckedAdd(plan.bytes, *bytes) : std::nullopt;
    if (!total) Refuse(place, "the size of the shape ", ShapeText(source.shape), " overflows");
    if (shard_bytes > 0 && *bytes > max_shard_bytes - shard_bytes) {
      plan.shards.emplace_back();
      shard_bytes = 0;
    }
    plan.shards.back().push_back({&source, *bytes});
    shard_bytes += *bytes;
    plan.bytes = *total;
  }
  for (Shard& shard : plan.shards) {
    // Wide types first: then every offset is a multiple of its element's size.
    std::stable_sort(shard.begin(), shard.end(),
                     [](const PlannedTensor& a, const PlannedTensor& b) {
                       return SizeOf(a.source->dtype) > SizeOf(b.source->dtype);
                     });
  }
  return plan;
}

std::vector<std::string> ShardNames(size_t count) {
  if (count == 1) return {kSingleFile};
  std::vector<std::string> names;
  for (size_t i = 1; i <= count; ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i, count);
    names.emplace_back(name);
  }
  return names;
}

std::string JsonText(const std::string& text) { return nlohmann::json(text).dump(); }

// The length prefix and the JSON, padded with spaces so that the data begins with a line of memory
// when it is mapped: kernels read whole lines fastest. Joined by hand: an ordered JSON object would
// search all keys at each insertion.
std::string Header(const Shard& shard, const std::map<std::string, std::string>& metadata,
                   const std::string& file) {
  std::string json = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  int64_t offset = 0;
  for (const PlannedTensor& tensor : shard) {
    const TensorSource& source = *tensor.source;
    json += StrCat(",", JsonText(source.name), ":{\"dtype\":\"", ToString(source.dtype),
                   "\",\"shape\":", nlohmann::json(source.shape).dump(), ",\"data_offsets\":[",
                   offset, ",", offset + tensor.bytes, "]}");
    offset += tensor.bytes;
  }
  json += "}";
  json.resize((kPrefix + json.size() + kLine - 1) / kLine * kLine - kPrefix, ' ');
  const int64_t most = CheckpointLimits{}.max_header_bytes;
  if (static_cast<int64_t>(json.size()) > most) {
    Refuse({.file = file}, "the header would take ", json.size(), " bytes; the format allows ",
           most, ". Write smaller shards");
  }
  std::string prefix;
  for (size_t i = 0; i < kPrefix; ++i) prefix += static_cast<char>(json.size() >> (8 * i) & 0xff);
  return prefix + json;
}

std::string Index(const ShardPlan& plan, const std::vector<std::string>& names) {
  nlohmann::json map = nlohmann::json::object();
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    for (const PlannedTensor& tensor : plan.shards[i]) map[tensor.source->name] = names[i];
  }
  const nlohmann::json index = {{"metadata", {{"total_size", plan.bytes}}},
                                {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

void WriteTensor(const PlannedTensor& tensor, OutputFiles& files, const std::string& file,
                 const std::function<void(int64_t)>& report) {
  int64_t done = 0;
  const Place place{.file = file, .tensor = tensor.source->name};
  tensor.source->write([&](std::span<const std::byte> bytes) {
    done += static_cast<int64_t>(bytes.size());
    if (done > tensor.bytes) Refuse(place, "its source yields more than ", tensor.bytes, " bytes");
    files.Write(bytes);
    report(static_cast<int64_t>(bytes.size()));
  });
  if (done != tensor.bytes) {
    Refuse(place, "its source yields ", done, " bytes; its shape needs ", tensor.bytes);
  }
}

void MakeDirectory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const bool usable = !error && std::filesystem::is_directory(directory, error) && !error;
  if (!usable) {
    CannotWrite(ErrorKind::kUsage, directory,
                StrCat("the directory cannot be made: ",
                       error ? error.message() : "a file of that name is in the way"));
  }
}

// Under the lock: another process may have written into it until then.
void CheckDirectory(const std::filesystem::path& directory, bool overwrite, int64_t bytes) {
  const std::string name = directory.string();
  std::error_code error;
  if (!overwrite && !std::filesystem::is_empty(directory, error)) {
    throw Error(ErrorKind::kUsage,
                StrCat("the directory ", Quoted(name),
                       " is not empty; name another one, or ask for overwriting"),
                {{"file", name}});
  }
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  if (!error && space.available < static_cast<uintmax_t>(bytes)) {
    CannotWrite(ErrorKind::kCapacity, directory,
                StrCat("the weights take ", bytes, " bytes, but only ", space.available,
                       " are free on that disk"));
  }
}

bool IsOurWeightFile(const std::string& name) {
  unsigned first = 0;
  unsigned last = 0;
  int end = 0;
  const bool shard =
      std::sscanf(name.c_str(), "model-%5u-of-%5u.safetensors%n", &first, &last, &end) == 2 &&
      end == static_cast<int>(name.size());
  return name == kSingleFile || name == kIndexFile || name == kQuantizeConfig || shard;
}

/// Weights of an earlier run, which would otherwise be found instead of, or beside, the new ones.
/// They wait under other names until the new ones have theirs, and come back if that fails.
class OldWeights {
 public:
  OldWeights(const std::filesystem::path& directory, const WriteOptions& options) {
    std::set<std::filesystem::path> old;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      const std::string name = entry.path().filename().string();
      if (!IsOurWeightFile(name) && options.texts.count(name) == 0) continue;
      if (entry.is_directory(error)) {
        CannotWrite(ErrorKind::kUsage, entry.path(), "a folder of that name is in the way");
      }
      old.insert(entry.path());
    }
    for (const std::filesystem::path& path : old) {
      std::filesystem::rename(path, Aside(path), error);
      if (error) {
        BringBack();
        CannotWrite(ErrorKind::kUsage, path,
                    StrCat("the old file cannot be moved out of the way: ", error.message()));
      }
      aside_.push_back(path);
    }
  }
  ~OldWeights() { BringBack(); }
  OldWeights(const OldWeights&) = delete;
  OldWeights& operator=(const OldWeights&) = delete;

  /// Once the new ones have their names.
  void Remove() {
    for (const std::filesystem::path& path : std::exchange(aside_, {})) {
      std::error_code error;
      std::filesystem::remove(Aside(path), error);
      if (error) {
        log::Warn("the old file ", Aside(path).string(), " cannot be removed: ", error.message());
      }
    }
  }

 private:
  static std::filesystem::path Aside(std::filesystem::path path) { return path += ".replaced"; }

  void BringBack() {
    for (const std::filesystem::path& path : std::exchange(aside_, {})) {
      std::error_code error;  // there is an error on its way already
      std::filesystem::rename(Aside(path), path, error);
    }
  }

  std::vector<std::filesystem::path> aside_;
};

}  // namespace

void PrepareToWrite(const std::filesystem::path& directory, bool overwrite, int64_t bytes) {
  MakeDirectory(directory);
  const WriterLock lock(directory);
  CheckDirectory(directory, overwrite, bytes);
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    CannotWrite(ErrorKind::kUsage, directory, std::strerror(errno));
  }
}

WriteReport WriteSafetensors(const std::vector<TensorSource>& sources,
                             const std::filesystem::path& directory, const WriteOptions& options) {
  const ShardPlan plan = PlanShards(sources, directory.string(), options.max_shard_bytes);
  MakeDirectory(directory);
  const WriterLock lock(directory);
  CheckDirectory(directory, options.overwrite, plan.bytes);
  const std::vector<std::string> names = ShardNames(plan.shards.size());
  WriteReport report{.files = {}, .texts = {}, .bytes = plan.bytes};
  WriteProgress progress{.bytes_done = 0, .bytes_total = plan.bytes, .tensor = {}};
  OutputFiles files;
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    const std::filesystem::path path = directory / names[i];
    const std::string file = path.string();
    files.Begin(path);
    files.Write(Header(plan.shards[i], options.metadata, file));
    for (const PlannedTensor& tensor : plan.shards[i]) {
      progress.tensor = tensor.source->name;
      WriteTensor(tensor, files, file, [&](int64_t bytes) {
        progress.bytes_done += bytes;
        options.progress(progress);
      });
    }
    report.files.push_back(path);
  }
  if (plan.shards.size() > 1) {
    files.Begin(directory / kIndexFile);
    files.Write(Index(plan, names));
    report.files.push_back(directory / kIndexFile);
  }
  for (const auto& [name, text] : options.texts) {
    files.Begin(directory / name);
    files.Write(text);
    report.texts.push_back(directory / name);
  }
  OldWeights old(directory, options);
  files.Commit();
  old.Remove();
  return report;
}

}  // namespace xcomposer
