#include "checkpoint/shard_index.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/checked_math.h"
#include "checkpoint/fault_list.h"
#include "checkpoint/strict_json.h"

namespace xcomposer {
namespace {

constexpr int64_t kMaxDepth = 16;
constexpr size_t kLongestFileName = 255;
constexpr std::string_view kWeightMap = "weight_map";
constexpr std::string_view kMetadata = "metadata";

// A name that, appended to the directory, stays in the directory.
bool IsPlainFileName(std::string_view name) {
  if (name.empty() || name.size() > kLongestFileName || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return c != '/' && c != '\\' && c != ':' && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  });
}

class IndexVisitor : public JsonVisitor {
 public:
  IndexVisitor(std::string_view file, const CheckpointLimits& limits)
      : file_(file), limits_(limits) {}

  void BeginObject(const JsonPath& path) override {
    if (path.size() == 1 && path[0] == kWeightMap && !in_array_) {
      seen_weight_map_ = true;
    } else {
      RequireOutsideMap(path);
    }
  }
  void EndObject(const JsonPath&) override {}
  void BeginArray(const JsonPath& path) override {
    RequireOutsideMap(path);
    ++in_array_;
  }
  void EndArray(const JsonPath&) override { --in_array_; }

  void Value(const JsonPath& path, const JsonScalar& value) override {
    if (path.size() == 2 && path[0] == kWeightMap) {
      AddTensor(path[1], value);
    } else if (path.size() == 2 && path[0] == kMetadata && path[1] == "total_size" && !in_array_) {
      SetTotalSize(value);
    } else {
      RequireOutsideMap(path);
    }
  }

  ShardIndex Take() {
    if (!seen_weight_map_) Refuse({.file = file_}, "the index has no \"weight_map\"");
    if (index_.weight_map.empty()) Refuse({.file = file_}, "the index names no tensor");
    return std::move(index_);
  }

 private:
  void RequireOutsideMap(const JsonPath& path) const {
    if (!path.empty() && path[0] == kWeightMap) {
      Refuse({.file = file_, .tensor = path.size() > 1 ? std::string_view(path[1]) : ""},
             "\"weight_map\" must map each tensor's name to a file name");
    }
  }

  void AddTensor(const std::string& name, const JsonScalar& value) {
    RequireTensorName(name, {.file = file_});
    const Place place{.file = file_, .tensor = name};
    const std::string* shard = std::get_if<std::string>(&value);
    if (shard == nullptr) Refuse(place, "its file in \"weight_map\" is not a text");
    if (!IsPlainFileName(*shard)) {
      Refuse(place, "the shard ", Quoted(*shard),
             " is not a plain file name; shards lie in the directory of the index");
    }
    if (static_cast<int64_t>(index_.weight_map.size()) >= limits_.max_tensors) {
      Refuse({.file = file_}, "the index names more than ", limits_.max_tensors, " tensors");
    }
    shards_.insert(*shard);
    if (static_cast<int64_t>(shards_.size()) > limits_.max_files) {
      Refuse({.file = file_}, "the index names more than ", limits_.max_files, " files");
    }
    index_.weight_map.emplace(name, *shard);
  }

  // Some tools write the size as 1.0e9; an integer of that value is meant. What is no size says
  // nothing.
  void SetTotalSize(const JsonScalar& value) {
    constexpr double kLargestExact = 9007199254740992.0;  // 2^53
    if (const int64_t* number = std::get_if<int64_t>(&value)) {
      index_.total_size = *number;
    } else if (const double* real = std::get_if<double>(&value);
               real != nullptr && *real >= 0 && *real <= kLargestExact) {
      index_.total_size = static_cast<int64_t>(*real);
    }
  }

  std::string_view file_;
  const CheckpointLimits& limits_;
  ShardIndex index_;
  std::set<std::string> shards_;
  bool seen_weight_map_ = false;
  int64_t in_array_ = 0;
};

// Bytes of all tensors, and the same with byte ranges that several tensors share counted once.
std::pair<std::optional<int64_t>, int64_t> TotalBytes(const std::vector<TensorEntry>& tensors) {
  std::optional<int64_t> all = 0;
  std::vector<std::tuple<int64_t, int64_t, int64_t>> ranges;
  for (const TensorEntry& tensor : tensors) {
    if (all) all = CheckedAdd(*all, tensor.DenseBytes());
    ranges.emplace_back(tensor.file, tensor.offset, tensor.offset + tensor.byte_length);
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t distinct = 0;
  int64_t open_file = -1;
  int64_t covered = 0;
  for (const auto& [file, begin, end] : ranges) {
    if (file != open_file) covered = 0;
    open_file = file;
    distinct += std::max<int64_t>(0, end - std::max(begin, covered));
    covered = std::max(covered, end);
  }
  return {all, distinct};
}

}  // namespace

std::vector<std::string> ShardIndex::Shards() const {
  std::set<std::string> names;
  for (const auto& [tensor, shard] : weight_map) names.insert(shard);
  return {names.begin(), names.end()};
}

ShardIndex ParseShardIndex(std::string_view text, std::string_view file,
                           const CheckpointLimits& limits) {
  const Place place{.file = file};
  if (static_cast<int64_t>(text.size()) > limits.max_index_bytes) {
    Refuse(place, "the index has ", text.size(), " bytes; at most ", limits.max_index_bytes,
           " are accepted");
  }
  IndexVisitor visitor(file, limits);
  // The tensors, which the visitor counts, and as much again around them.
  const JsonLimits json{.max_depth = kMaxDepth,
                        .max_open_keys = 2 * limits.max_tensors + kMaxDepth};
  VisitJson(text, place, json, visitor);
  return visitor.Take();
}

void RequireIndexed(const ShardIndex& index, const std::vector<std::string>& shards,
                    const std::vector<TensorEntry>& tensors, std::string_view file) {
  FaultList faults(file);
  std::map<std::string_view, std::string_view> found;  // tensor -> shard
  for (const TensorEntry& tensor : tensors) {
    const std::string& shard = shards[static_cast<size_t>(tensor.file)];
    const auto [place, fresh] = found.emplace(tensor.name, shard);
    const auto wanted = index.weight_map.find(tensor.name);
    if (!fresh) {
      faults.Add(tensor.name, StrCat("is in ", Quoted(place->second), " and in ", Quoted(shard)));
    } else if (wanted == index.weight_map.end()) {
      faults.Add(tensor.name, StrCat("is in ", Quoted(shard), ", but not in the index"));
    } else if (wanted->second != shard) {
      faults.Add(tensor.name,
                 StrCat("is in ", Quoted(shard), ", but the index says ", Quoted(wanted->second)));
    }
  }
  for (const auto& [name, shard] : index.weight_map) {
    if (found.find(name) == found.end()) {
      faults.Add(name, StrCat("is not in ", Quoted(shard), " as the index says, nor elsewhere"));
    }
  }
  faults.ThrowIfAny("the index and its shards disagree");
}

std::optional<std::string> TotalSizeNote(const ShardIndex& index,
                                         const std::vector<TensorEntry>& tensors) {
  if (!index.total_size) return std::nullopt;
  const auto [all, distinct] = TotalBytes(tensors);
  if (index.total_size == all || index.total_size == distinct) return std::nullopt;
  return StrCat("metadata.total_size of the index is ", *index.total_size,
                ", but the tensors take ", distinct, " bytes; it is not used");
}

}  // namespace xcomposer
