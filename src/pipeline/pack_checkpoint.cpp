#include "pipeline/pack_checkpoint.h"

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "config/weight_names.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/thread_pool.h"
#include "ops/bf12.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/plain_tensors.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

constexpr int64_t kWordsOfLine = 16;

bool HasFittingSize(const WeightSpec& spec) {
  return spec.shape[0] % kBf12Outputs == 0 && spec.shape[1] % kBf12Inputs == 0;
}

/// The linears of the decoder and the output matrix by the name of their weight.
std::map<std::string, WeightSpec> LinearsOf(const ModelConfig& config) {
  std::map<std::string, WeightSpec> linears;
  for (const WeightSpec& spec : WeightTable(config)) {
    if (spec.linear) linears[spec.name] = spec;
  }
  return linears;
}

class Packer {
 public:
  Packer(const Checkpoint& checkpoint, const ModelConfig& config,
         const WriteProgressCallback& progress)
      : checkpoint_(checkpoint),
        linears_(LinearsOf(config)),
        in_12_bits_(WeightsIn12Bits(config, HeadersOf(checkpoint))),
        counted_(checkpoint, {}, {}, WeightStorage::kAsStored, {}),
        written_(checkpoint, {}, {}, WeightStorage::kAsStored, {}),
        progress_(progress) {
    for (const TensorEntry& entry : checkpoint.entries()) {
      stored_bytes_ += entry.DenseBytes();
      if (!IsToBePacked(entry)) continue;
      Require(entry.dtype == DType::kBF16, ErrorKind::kUsage, entry.name, " is ",
              ToString(entry.dtype), ", and bf12 packs BF16 only");
      linear_bytes_ += entry.DenseBytes();
    }
  }

  PackingReport Write(const std::filesystem::path& directory, const ConversionOptions& options) {
    PrepareToWrite(directory, options.overwrite, expected_bytes());
    std::vector<TensorSource> sources;
    for (const TensorEntry& entry : checkpoint_.entries()) {
      if (IsToBePacked(entry) && AddPacked(entry, sources)) continue;
      if (linears_.count(entry.name) != 0) ++report_.kept;
      CountPacked(entry);
      sources.push_back(SourceOf(checkpoint_, entry));
    }
    report_.written =
        WriteInPlaceOf(checkpoint_, sources, directory, options, [this](const WriteProgress& step) {
          progress_({.bytes_done = linear_bytes_ + step.bytes_done,
                     .bytes_total = linear_bytes_ + step.bytes_total,
                     .tensor = step.tensor});
        });
    return std::move(report_);
  }

 private:
  bool IsToBePacked(const TensorEntry& entry) const {
    const auto linear = linears_.find(entry.name);
    return linear != linears_.end() && HasFittingSize(linear->second);
  }

  int64_t expected_bytes() const { return stored_bytes_ - linear_bytes_ / 4; }

  /// Of a linear that is in 12 bits already, and stays so if it is a sound one.
  void CountPacked(const TensorEntry& entry) {
    const std::optional<std::string> weight = WeightOfBf12(entry.name);
    if (!weight || !in_12_bits_.contains(*weight)) return;
    if (entry.name != Bf12NamesOf(*weight).words) return;
    const WeightSpec& spec = linears_.at(*weight);
    const std::string module = weight->substr(0, weight->rfind('.'));
    counted_.TakeLinear(module, spec.shape[0], spec.shape[1]);
    ++report_.packed;
  }

  /// Adds the three tensors of a linear, or nothing where packing does not pay.
  bool AddPacked(const TensorEntry& entry, std::vector<TensorSource>& sources) {
    const std::optional<ops::LinearWeight> packed =
        ops::PackBf12(counted_.Take(entry.name, entry.shape));
    progress_({.bytes_done = linears_done_ += entry.DenseBytes(),
               .bytes_total = linear_bytes_ + expected_bytes(),
               .tensor = entry.name});
    if (!packed) return false;
    ++report_.packed;
    const Bf12Names names = Bf12NamesOf(entry.name);
    // Scales and outliers, which follow each other in a file, fill whole lines of memory: the words
    // of the next matrix then begin with one.
    const int64_t count = packed->zeros.numel();
    const int64_t used = packed->scales.numel() + count;
    const int64_t lines = (used + kWordsOfLine - 1) / kWordsOfLine;
    const at::Tensor outliers = at::zeros({count + lines * kWordsOfLine - used}, at::kInt);
    outliers.narrow(0, 0, count).copy_(packed->zeros);
    sources.push_back({names.words, DType::kI32, packed->data.sizes().vec(),
                       [this, &entry](const ByteSink& sink) {
                         const auto again = ops::PackBf12(written_.Take(entry.name, entry.shape));
                         Require(again.has_value(), ErrorKind::kCheckpoint, entry.name,
                                 " changed while it was read");
                         WriteBytes(again->data, sink);
                       }});
    sources.push_back(
        {names.scales, DType::kF32, packed->scales.sizes().vec(),
         [scales = packed->scales](const ByteSink& sink) { WriteBytes(scales, sink); }});
    sources.push_back({names.outliers, DType::kI32, outliers.sizes().vec(),
                       [outliers](const ByteSink& sink) { WriteBytes(outliers, sink); }});
    return true;
  }

  const Checkpoint& checkpoint_;
  const std::map<std::string, WeightSpec> linears_;
  const std::set<std::string> in_12_bits_;
  CheckpointWeights counted_;
  CheckpointWeights written_;
  const WriteProgressCallback& progress_;
  int64_t stored_bytes_ = 0;
  int64_t linear_bytes_ = 0;
  int64_t linears_done_ = 0;
  PackingReport report_;
};

/// Does `work` with so many threads, after what both directions check.
template <typename Work>
PackingReport WithThreads(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                          const std::filesystem::path& directory, const Work& work) {
  RequireOtherDirectory(checkpoint, directory);
  CheckWeights(config, HeadersOf(checkpoint));
  const c10::InferenceMode inference;
  return Translated("converting the checkpoint", [&] {
    cpu::ThreadPool pool(threads > 0 ? threads : cpu::UsableCores());
    const cpu::ThreadPoolScope scope(pool);
    return work();
  });
}

}  // namespace

PackingReport PackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                             const std::filesystem::path& directory,
                             const ConversionOptions& options,
                             const WriteProgressCallback& progress) {
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised (",
          ToString(config.quantization), "), and bf12 packs bfloat16 only");
  return WithThreads(checkpoint, config, threads, directory, [&] {
    return Packer(checkpoint, config, progress).Write(directory, options);
  });
}

PackingReport UnpackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                               const std::filesystem::path& directory,
                               const ConversionOptions& options,
                               const WriteProgressCallback& progress) {
  return WithThreads(checkpoint, config, threads, directory, [&] {
    CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kAsStored, {});
    PackingReport report;
    std::vector<TensorSource> sources;
    for (const PlainTensor& tensor : PlainTensorsOf(checkpoint, config)) {
      if (tensor.entry == nullptr) ++report.unpacked;
      sources.push_back(PlainSource(checkpoint, weights, tensor));
    }
    report.written = WriteInPlaceOf(checkpoint, sources, directory, options, progress);
    return report;
  });
}

}  // namespace xcomposer
