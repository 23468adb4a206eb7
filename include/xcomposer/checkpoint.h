#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "xcomposer/export.h"

namespace xcomposer {

struct TensorInfo {
  std::string name;
  std::string dtype;  ///< safetensors spelling: BF16, F16, F32, ...
  std::vector<int64_t> shape;
  std::string file;
  int64_t bytes = 0;
};

struct CheckpointFile {
  std::string name;
  std::string format;  ///< "safetensors" or "torch"
  int64_t bytes = 0;
};

/// What a checkpoint folder holds, read from headers only.
struct CheckpointReport {
  std::string path;
  std::string kind;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t vocab = 0;
  /// "none", "xcomposer 4 bit, groups of 32, output 8 bit, groups of 128", ...
  std::string quantization;
  int64_t parameters =
      0;  ///< of the model; of all tensors where their number is not what it should be
  int64_t bytes = 0;
  std::vector<CheckpointFile> files;
  std::vector<TensorInfo> tensors;
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;  ///< everything that is too much
  /// Those of `unexpected` that belong to no part of the model: it runs without them.
  std::vector<std::string> unused;
  std::vector<std::string> mismatched;  ///< name, found and expected shape
  std::vector<std::string> notes;       ///< what the files say differently without harm
  /// The model can be loaded.
  bool ok() const {
    return missing.empty() && unexpected.size() == unused.size() && mismatched.empty();
  }
};

/// Reads headers and compares them with what config.json implies. `kind` overrides detection.
/// Throws kConfig where the kind cannot be told, and kConfig or kCheckpoint where a file cannot be
/// parsed at all.
XCOMPOSER_API CheckpointReport Inspect(const std::string& model, const std::string& kind = "");

struct FileDigest {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;  ///< as sha256sum prints it
};

struct CheckpointDigest {
  std::vector<FileDigest> files;
  /// What ranks compare before they start: SHA-256 over headers, sizes and samples of the weights.
  std::string fingerprint;
};

struct DigestProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string file;
};

/// Reads every byte of the weight files and hashes it. Throws kCheckpoint for a folder that is none
/// and files that cannot be read, and what `progress` throws.
XCOMPOSER_API CheckpointDigest
Digest(const std::string& model, const std::function<void(const DigestProgress&)>& progress = {});

struct ConvertProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string tensor;
};

/// What Convert makes of the decoder's linears and the output matrix. No number changes with any.
enum class MatrixFormat {
  kAsStored,
  kBf12,      ///< bfloat16 in 12 bits, where a matrix allows it (docs/quantisation.md)
  kBFloat16,  ///< those in 12 bits as bfloat16 again
};

struct ConvertOptions {
  MatrixFormat matrices = MatrixFormat::kAsStored;
  int threads = 0;  ///< to pack and unpack with, up to 4096; 0: as many as this process may use
  int64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false;
  std::function<void(const ConvertProgress&)> progress = {};
};

struct ConvertSummary {
  int64_t tensors = 0;
  int64_t bytes = 0;
  std::vector<std::string> files;
  int64_t packed = 0;    ///< with kBf12: matrices that are in 12 bits
  int64_t kept = 0;      ///< and those that stayed as they are: their size or numbers do not fit
  int64_t unpacked = 0;  ///< with kBFloat16: matrices that were in 12 bits
};

/// Writes the same checkpoint as sharded safetensors, bit for bit, beside its config and tokenizer;
/// with other `matrices` the same numbers. Throws kCheckpoint for one that cannot be read, kUsage
/// for an output folder that is the checkpoint's own, is being written, or holds files already
/// (without `overwrite`), kCapacity where the disk is too small, and what `progress` throws. With
/// other `matrices` also kConfig for a config.json that cannot be used, kCheckpoint for tensors
/// that are not what it implies, and with kBf12 kUsage for linears that are quantised or otherwise
/// not bfloat16.
XCOMPOSER_API ConvertSummary Convert(const std::string& model, const std::string& out_folder,
                                     const ConvertOptions& options = {});

struct QuantizeOptions {
  int bits = 8;  ///< 8 or 4
  /// Inputs of the decoder's linears that share a scale: a multiple of 128 for 8 bits, of 32 for 4,
  /// or no fewer than a row has; 0: 128 and 32.
  int64_t group_size = 0;
  int threads = 0;  ///< up to 4096; 0: as many as this process may use
  int64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false;
  std::function<void(const ConvertProgress&)> progress = {};
};

struct QuantizeSummary {
  ConvertSummary written;
  int64_t linears = 0;        ///< that were quantised, the output matrix among them
  int64_t bytes_before = 0;   ///< of all tensors read
  double relative_error = 0;  ///< of the quantised weights: root of (squared error / squares)
};

/// Writes the checkpoint with the linears of its decoder quantised, and its output matrix to 8
/// bits: safetensors in the layout of docs/quantisation.md, which Engine reads. Throws kUsage for a
/// checkpoint that is quantised already and for other group sizes.
XCOMPOSER_API QuantizeSummary Quantize(const std::string& model, const std::string& out_folder,
                                       const QuantizeOptions& options = {});

}  // namespace xcomposer
