#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/dense_copy.h"
#include "checkpoint/dtype.h"

namespace xcomposer {

/// One tensor to be written: what it is, and a function that yields its bytes.
struct TensorSource {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  /// Called once; must hand exactly the dense row-major little-endian bytes to the sink, in any
  /// pieces.
  std::function<void(const ByteSink&)> write;
};

/// What says how weights are quantised; it goes with the weights.
inline constexpr char kQuantizeConfig[] = "quantize_config.json";

struct WriteProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string tensor;  ///< that is being written
};
using WriteProgressCallback = std::function<void(const WriteProgress&)>;

struct WriteOptions {
  int64_t max_shard_bytes =
      5'000'000'000;       ///< tensor bytes of one file; a larger tensor stands alone
  bool overwrite = false;  ///< write into a directory that is not empty
  std::map<std::string, std::string> metadata = {
      {"format", "pt"}};                          ///< "__metadata__" of each file
  std::map<std::string, std::string> texts = {};  ///< small files that belong to them, by name
  WriteProgressCallback progress = [](const WriteProgress&) {};
};

struct WriteReport {
  std::vector<std::filesystem::path> files;  ///< the weights, then the index where there is one
  std::vector<std::filesystem::path> texts;
  int64_t bytes = 0;  ///< of all tensors
};

/// Makes the directory, and throws as WriteSafetensors where that cannot be done, where another
/// process is writing there, where it is not empty and overwriting was not asked for, where it
/// cannot be written to, or where the disk has no room for `bytes`: for those who compute long
/// before they write.
void PrepareToWrite(const std::filesystem::path& directory, bool overwrite, int64_t bytes);

/// Writes `sources` into `directory` as model.safetensors, or as model-0000i-of-0000n.safetensors
/// with model.safetensors.index.json where they exceed max_shard_bytes. Shards are filled in the
/// order given; inside a file wide types come first, so that every tensor is aligned to its size,
/// and the data begins at a multiple of 64 bytes. Files get their names only when all of them are
/// complete; on an error nothing is left behind. With `overwrite`, older weights go then; an error
/// leaves them, and a process that is killed between their names and the new ones leaves both, as
/// *.replaced and *.partial.
/// Memory: one piece of one tensor.
///
/// Throws kUsage where the directory cannot be made or written, is being written by another
/// process, or is not empty and overwriting was not asked for, kCapacity where the disk is too
/// small, kInternal where writing fails, kCheckpoint where two sources share a name, or where a
/// source yields another number of bytes than its shape says.
WriteReport WriteSafetensors(const std::vector<TensorSource>& sources,
                             const std::filesystem::path& directory, const WriteOptions& options);

}  // namespace xcomposer
