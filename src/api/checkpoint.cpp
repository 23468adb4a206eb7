#include "xcomposer/checkpoint.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>

#include "api/load_options.h"
#include "api/model_folder.h"
#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "checkpoint/fingerprint.h"
#include "config/model_config.h"
#include "config/weight_names.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/pack_checkpoint.h"
#include "pipeline/quantise_checkpoint.h"

namespace xcomposer {
namespace {

int64_t Elements(const TensorInfo& tensor) {
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  return count;
}

std::function<void(const WriteProgress&)> Forwarded(
    const std::function<void(const ConvertProgress&)>& progress) {
  return [progress](const WriteProgress& step) {
    if (progress) progress({step.bytes_done, step.bytes_total, step.tensor});
  };
}

ConvertSummary SummaryOf(const ConversionReport& done) {
  ConvertSummary summary;
  summary.tensors = done.tensors;
  summary.bytes = done.bytes;
  for (const auto& file : done.weights) summary.files.push_back(file.filename().string());
  for (const auto& file : done.texts) summary.files.push_back(file.filename().string());
  return summary;
}

}  // namespace

CheckpointReport Inspect(const std::string& model, const std::string& kind) {
  const std::optional<Kind> wanted = kind.empty() ? std::nullopt : std::optional(ParseKind(kind));
  const auto folder = api::FindModelFolder(model);
  const Checkpoint checkpoint = Checkpoint::Open(folder);
  CheckpointReport report;
  report.path = folder.string();
  for (const WeightFile& file : checkpoint.files()) {
    report.files.push_back({file.path.filename().string(), ToString(file.format), file.size});
  }
  for (const TensorEntry& entry : checkpoint.entries()) {
    report.tensors.push_back(
        {entry.name, ToString(entry.dtype), entry.shape,
         checkpoint.files()[static_cast<size_t>(entry.file)].path.filename().string(),
         entry.DenseBytes()});
    report.bytes += entry.DenseBytes();
  }
  const WeightHeaders headers = HeadersOf(checkpoint);
  const ModelConfig config = LoadConfig(folder, headers, wanted);
  report.kind = ToString(config.kind);
  report.layers = config.layers;
  report.hidden = config.hidden_size;
  report.vocab = config.vocab_size;
  report.quantization = ToString(config.quantization);
  const size_t in_12_bits = config.in_12_bits.size();
  if (config.quantization || in_12_bits > 0) {
    report.parameters = ParameterCount(config);
  } else {
    for (const TensorInfo& tensor : report.tensors) report.parameters += Elements(tensor);
  }
  WeightDifferences differences = CompareWeights(config, headers);
  report.missing = std::move(differences.missing);
  std::merge(differences.unexpected.begin(), differences.unexpected.end(),
             differences.unused.begin(), differences.unused.end(),
             std::back_inserter(report.unexpected));
  report.unused = std::move(differences.unused);
  report.mismatched = std::move(differences.mismatched);
  report.notes = checkpoint.notes();
  report.notes.insert(report.notes.end(), config.notes.begin(), config.notes.end());
  if (in_12_bits > 0) {
    report.notes.push_back(StrCat(in_12_bits, in_12_bits == 1 ? " matrix is" : " matrices are",
                                  " stored in 12 bits a number (bf12), exactly; `convert "
                                  "--matrices bf16` writes bfloat16 again"));
  }
  if (!report.unused.empty()) report.notes.push_back(UnusedNote(report.unused));
  return report;
}

CheckpointDigest Digest(const std::string& model,
                        const std::function<void(const DigestProgress&)>& progress) {
  const Checkpoint checkpoint = Checkpoint::Open(api::FindModelFolder(model));
  DigestProgress state;
  for (const WeightFile& file : checkpoint.files()) state.bytes_total += file.size;
  CheckpointDigest digest;
  digest.fingerprint = WeightFingerprint(checkpoint);
  for (const WeightFile& file : checkpoint.files()) {
    state.file = file.path.filename().string();
    const int64_t before = state.bytes_done;
    const std::string hash = FileHash(file.path, [&](int64_t bytes) {
      state.bytes_done = before + bytes;
      if (progress) progress(state);
    });
    digest.files.push_back({state.file, file.size, hash});
  }
  return digest;
}

ConvertSummary Convert(const std::string& model, const std::string& out_folder,
                       const ConvertOptions& options) {
  api::CheckThreads(options.threads);
  const auto folder = api::FindModelFolder(model);
  const Checkpoint checkpoint = Checkpoint::Open(folder);
  const ConversionOptions write{.max_shard_bytes = options.max_shard_bytes,
                                .overwrite = options.overwrite};
  const WriteProgressCallback progress = Forwarded(options.progress);
  if (options.matrices == MatrixFormat::kAsStored) {
    return SummaryOf(ConvertCheckpoint(checkpoint, out_folder, write, progress));
  }
  api::CheckInstructionSet();
  const ModelConfig config = LoadConfig(folder, HeadersOf(checkpoint));
  const auto convert =
      options.matrices == MatrixFormat::kBf12 ? &PackCheckpoint : &UnpackCheckpoint;
  const PackingReport done =
      convert(checkpoint, config, options.threads, out_folder, write, progress);
  ConvertSummary summary = SummaryOf(done.written);
  summary.packed = done.packed;
  summary.kept = done.kept;
  summary.unpacked = done.unpacked;
  return summary;
}

QuantizeSummary Quantize(const std::string& model, const std::string& out_folder,
                         const QuantizeOptions& options) {
  Require(options.bits == 8 || options.bits == 4, ErrorKind::kUsage, "bits is ", options.bits,
          ", expected 8 or 4");
  api::CheckThreads(options.threads);
  api::CheckInstructionSet();
  Quantization wanted = options.bits == 8 ? kInt8 : kInt4;
  Require(options.group_size >= 0, ErrorKind::kUsage, "the group size is ", options.group_size,
          ", expected a multiple of ", OwnBlock(wanted.bits));
  if (options.group_size > 0) wanted.group_size = options.group_size;
  const auto folder = api::FindModelFolder(model);
  const Checkpoint checkpoint = Checkpoint::Open(folder);
  const ModelConfig config = LoadConfig(folder, HeadersOf(checkpoint));
  const QuantisationReport done = QuantiseCheckpoint(
      checkpoint, config, wanted, options.threads, out_folder,
      {.max_shard_bytes = options.max_shard_bytes, .overwrite = options.overwrite},
      Forwarded(options.progress));
  QuantizeSummary summary;
  summary.written = SummaryOf(done.written);
  summary.linears = done.linears;
  summary.relative_error = done.relative_error;
  for (const TensorEntry& entry : checkpoint.entries()) summary.bytes_before += entry.DenseBytes();
  return summary;
}

}  // namespace xcomposer
