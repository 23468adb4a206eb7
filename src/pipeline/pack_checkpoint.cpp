#include "pipeline/pack_checkpoint.h"

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "config/weight_names.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/thread_pool.h"
#include "ops/bf12.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

constexpr int64_t kWordsOfLine = 16;

void WriteBytes(const at::Tensor& tensor, const ByteSink& sink) {
  sink({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
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
        counted_(checkpoint, {}, {}, WeightStorage::kAsStored, {}),
        written_(checkpoint, {}, {}, WeightStorage::kAsStored, {}),
        progress_(progress) {
    for (const TensorEntry& entry : checkpoint.entries()) {
      stored_bytes_ += entry.DenseBytes();
      if (IsPlainLinear(entry)) linear_bytes_ += entry.DenseBytes();
    }
  }

  PackingReport Write(const std::filesystem::path& directory, const ConversionOptions& options) {
    PrepareToWrite(directory, options.overwrite, stored_bytes_ - linear_bytes_ / 4);
    std::vector<TensorSource> sources;
    for (const TensorEntry& entry : checkpoint_.entries()) {
      if (IsPlainLinear(entry)) {
        if (AddPacked(entry, sources)) continue;
        ++report_.kept;
      }
      if (const auto packed = WeightOfBf12(entry.name)) {
        if (entry.name == Bf12NamesOf(*packed).words) ++report_.packed;
      }
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
  bool IsPlainLinear(const TensorEntry& entry) const { return linears_.count(entry.name) != 0; }

  /// Adds the three tensors of a linear, or nothing where it cannot be packed.
  bool AddPacked(const TensorEntry& entry, std::vector<TensorSource>& sources) {
    Require(entry.dtype == DType::kBF16, ErrorKind::kUsage, entry.name, " is ",
            ToString(entry.dtype), ", and bf12 packs BF16 only");
    const std::optional<ops::LinearWeight> packed =
        ops::PackBf12(counted_.Take(entry.name, entry.shape));
    progress_({.bytes_done = linears_done_ += entry.DenseBytes(),
               .bytes_total = linear_bytes_ + stored_bytes_,
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
  CheckpointWeights counted_;
  CheckpointWeights written_;
  const WriteProgressCallback& progress_;
  int64_t stored_bytes_ = 0;
  int64_t linear_bytes_ = 0;
  int64_t linears_done_ = 0;
  PackingReport report_;
};

void RequirePackable(const Checkpoint& checkpoint, const ModelConfig& config,
                     const std::filesystem::path& directory) {
  RequireOtherDirectory(checkpoint, directory);
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised (",
          ToString(config.quantization), "), and bf12 holds bfloat16 only");
  CheckWeights(config, HeadersOf(checkpoint));
}

}  // namespace

PackingReport PackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config, int threads,
                             const std::filesystem::path& directory,
                             const ConversionOptions& options,
                             const WriteProgressCallback& progress) {
  RequirePackable(checkpoint, config, directory);
  const c10::InferenceMode inference;
  return Translated("packing the checkpoint", [&] {
    cpu::ThreadPool pool(threads > 0 ? threads : cpu::UsableCores());
    const cpu::ThreadPoolScope scope(pool);
    return Packer(checkpoint, config, progress).Write(directory, options);
  });
}

ConversionReport UnpackCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config,
                                  int threads, const std::filesystem::path& directory,
                                  const ConversionOptions& options,
                                  const WriteProgressCallback& progress) {
  RequirePackable(checkpoint, config, directory);
  const c10::InferenceMode inference;
  return Translated("unpacking the checkpoint", [&] {
    cpu::ThreadPool pool(threads > 0 ? threads : cpu::UsableCores());
    const cpu::ThreadPoolScope scope(pool);
    CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kAsStored, {});
    std::vector<TensorSource> sources;
    for (const TensorEntry& entry : checkpoint.entries()) {
      if (!WeightOfBf12(entry.name)) {
        sources.push_back(SourceOf(checkpoint, entry));
      } else if (auto matrix = MatrixThatBeginsWith(entry)) {
        sources.push_back({matrix->name, DType::kBF16, matrix->shape,
                           [&weights, matrix = *matrix](const ByteSink& sink) {
                             WriteBytes(weights.Take(matrix.name, matrix.shape), sink);
                           }});
      }
    }
    return WriteInPlaceOf(checkpoint, sources, directory, options, progress);
  });
}

}  // namespace xcomposer
