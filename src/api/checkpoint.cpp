#include "xcomposer/checkpoint.h"

#include <optional>

#include "api/model_folder.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "checkpoint/fingerprint.h"
#include "config/model_config.h"
#include "config/weight_names.h"
#include "pipeline/checkpoint_weights.h"

namespace xcomposer {
CheckpointReport Inspect(const std::string& model, const std::string& kind) {
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
    report.parameters += entry.NumElements();
    report.bytes += entry.DenseBytes();
  }
  const WeightHeaders headers = HeadersOf(checkpoint);
  const ModelConfig config =
      LoadConfig(folder, headers, kind.empty() ? std::nullopt : std::optional(ParseKind(kind)));
  report.kind = ToString(config.kind);
  report.layers = config.layers;
  report.hidden = config.hidden_size;
  report.vocab = config.vocab_size;
  WeightDifferences differences = CompareWeights(config, headers);
  report.missing = std::move(differences.missing);
  report.unexpected = std::move(differences.unexpected);
  report.mismatched = std::move(differences.mismatched);
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
  const Checkpoint checkpoint = Checkpoint::Open(api::FindModelFolder(model));
  const auto report = [&options](const WriteProgress& progress) {
    if (options.progress) {
      options.progress({progress.bytes_done, progress.bytes_total, progress.tensor});
    }
  };
  const ConversionReport done = ConvertCheckpoint(
      checkpoint, out_folder,
      {.max_shard_bytes = options.max_shard_bytes, .overwrite = options.overwrite}, report);
  ConvertSummary summary;
  summary.tensors = done.tensors;
  summary.bytes = done.bytes;
  for (const auto& file : done.weights) summary.files.push_back(file.filename().string());
  for (const auto& file : done.copied) summary.files.push_back(file.filename().string());
  return summary;
}

}  // namespace xcomposer
