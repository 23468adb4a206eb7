#include "checkpoint/convert.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>

#include "base/check.h"
#include "checkpoint/fault.h"
#include "checkpoint/output_files.h"

namespace xcomposer {
namespace {

bool EndsWith(std::string_view name, std::string_view end) {
  return name.size() > end.size() && name.substr(name.size() - end.size()) == end;
}

bool BelongsToTheWeights(std::string_view name) {
  if (name[0] == '.' || EndsWith(name, ".index.json")) return false;
  return EndsWith(name, ".json") || EndsWith(name, ".model") || EndsWith(name, ".txt");
}

std::vector<std::filesystem::path> Companions(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.is_regular_file(error) && BelongsToTheWeights(entry.path().filename().string())) {
      paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// The copy is writable also where the source is not, so that the user may edit it.
void CopyCompanion(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code error;
  std::filesystem::remove(to, error);
  std::filesystem::copy_file(from, to, error);
  if (!error) {
    std::filesystem::permissions(to, std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add, error);
  }
  if (error) {
    CannotWrite(ErrorKind::kInternal, to,
                StrCat("copying from ", Quoted(from.string()), " failed: ", error.message()));
  }
}

}  // namespace

std::vector<std::filesystem::path> CopyCompanions(const Checkpoint& checkpoint,
                                                  const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> copied;
  for (const std::filesystem::path& companion : Companions(checkpoint.directory())) {
    copied.push_back(directory / companion.filename());
    CopyCompanion(companion, copied.back());
  }
  return copied;
}

void RequireOtherDirectory(const Checkpoint& checkpoint, const std::filesystem::path& directory) {
  std::error_code error;
  if (std::filesystem::equivalent(checkpoint.directory(), directory, error)) {
    throw Error(ErrorKind::kUsage, "the checkpoint cannot be written into its own directory",
                {{"file", directory.string()}});
  }
}

ConversionReport ConvertCheckpoint(const Checkpoint& checkpoint,
                                   const std::filesystem::path& directory,
                                   const ConversionOptions& options,
                                   const WriteProgressCallback& progress) {
  RequireOtherDirectory(checkpoint, directory);
  std::vector<TensorSource> sources;
  sources.reserve(checkpoint.entries().size());
  for (const TensorEntry& entry : checkpoint.entries()) {
    sources.push_back({entry.name, entry.dtype, entry.shape, [&](const ByteSink& sink) {
                         ForEachDenseChunk(entry, checkpoint.Bytes(entry), sink);
                       }});
  }
  WriteOptions write{.max_shard_bytes = options.max_shard_bytes, .overwrite = options.overwrite};
  write.metadata = checkpoint.metadata();
  write.metadata["format"] = "pt";
  write.progress = progress;
  WriteReport written = WriteSafetensors(sources, directory, write);
  ConversionReport report{.weights = std::move(written.files),
                          .copied = {},
                          .tensors = static_cast<int64_t>(sources.size()),
                          .bytes = written.bytes};
  report.copied = CopyCompanions(checkpoint, directory);
  return report;
}

}  // namespace xcomposer
