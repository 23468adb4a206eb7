#include "checkpoint/convert.h"

#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/small_file.h"
#include "checkpoint/fault.h"

namespace xcomposer {
namespace {

bool EndsWith(std::string_view name, std::string_view end) {
  return name.size() > end.size() && name.substr(name.size() - end.size()) == end;
}

bool BelongsToTheWeights(std::string_view name) {
  if (name[0] == '.' || EndsWith(name, ".index.json")) return false;
  return EndsWith(name, ".json") || EndsWith(name, ".model") || EndsWith(name, ".txt");
}

}  // namespace

std::map<std::string, std::string> ReadCompanions(const Checkpoint& checkpoint,
                                                  const CompanionLimits& limits) {
  std::map<std::string, std::string> texts;
  int64_t total = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.directory(), error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file(error) || !BelongsToTheWeights(name)) continue;
    std::string text = ReadSmallFile(entry.path(), limits.file_bytes, ErrorKind::kCheckpoint);
    total += static_cast<int64_t>(text.size());
    if (total > limits.total_bytes) {
      Refuse({.file = entry.path().native()}, "the files beside the weights have ", total,
             " bytes up to this one; at most ", limits.total_bytes, " are accepted");
    }
    texts[name] = std::move(text);
  }
  return texts;
}

void RequireOtherDirectory(const Checkpoint& checkpoint, const std::filesystem::path& directory) {
  std::error_code error;
  if (std::filesystem::equivalent(checkpoint.directory(), directory, error)) {
    throw Error(ErrorKind::kUsage, "the checkpoint cannot be written into its own directory",
                {{"file", directory.string()}});
  }
}

TensorSource SourceOf(const Checkpoint& checkpoint, const TensorEntry& entry) {
  return {entry.name, entry.dtype, entry.shape, [&checkpoint, &entry](const ByteSink& sink) {
            ForEachDenseChunk(entry, checkpoint.Bytes(entry), sink);
          }};
}

ConversionReport WriteInPlaceOf(const Checkpoint& checkpoint,
                                const std::vector<TensorSource>& sources,
                                const std::filesystem::path& directory,
                                const ConversionOptions& options,
                                const WriteProgressCallback& progress,
                                const CheckpointAdditions& additions) {
  RequireOtherDirectory(checkpoint, directory);
  WriteOptions write{.max_shard_bytes = options.max_shard_bytes, .overwrite = options.overwrite};
  write.metadata = checkpoint.metadata();
  write.metadata["format"] = "pt";
  write.texts = ReadCompanions(checkpoint);
  for (const auto& [key, value] : additions.metadata) write.metadata[key] = value;
  for (const auto& [name, text] : additions.texts) write.texts[name] = text;
  write.progress = progress;
  WriteReport written = WriteSafetensors(sources, directory, write);
  return {.weights = std::move(written.files),
          .texts = std::move(written.texts),
          .tensors = static_cast<int64_t>(sources.size()),
          .bytes = written.bytes};
}

ConversionReport ConvertCheckpoint(const Checkpoint& checkpoint,
                                   const std::filesystem::path& directory,
                                   const ConversionOptions& options,
                                   const WriteProgressCallback& progress) {
  std::vector<TensorSource> sources;
  sources.reserve(checkpoint.entries().size());
  for (const TensorEntry& entry : checkpoint.entries()) {
    sources.push_back(SourceOf(checkpoint, entry));
  }
  return WriteInPlaceOf(checkpoint, sources, directory, options, progress);
}

}  // namespace xcomposer
