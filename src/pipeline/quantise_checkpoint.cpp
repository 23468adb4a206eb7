#include "pipeline/quantise_checkpoint.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/floor_divide.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/thread_pool.h"
#include "ops/quantise.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

/// What stands before `end` in `text`; empty where it does not end so.
std::string WithoutEnd(const std::string& text, const std::string& end) {
  if (text.size() < end.size()) return "";
  const size_t length = text.size() - end.size();
  return text.compare(length, end.size(), end) == 0 ? text.substr(0, length) : "";
}

/// What becomes of a weight: the tensors `stem`qweight, `stem`qzeros, ...
struct QuantisedLinear {
  std::string stem;
  Quantization wanted;
};

/// The linears of the decoder and the output matrix by the name of their weight: what a quantised
/// checkpoint has words for.
std::map<std::string, QuantisedLinear> LinearsOf(const ModelConfig& config,
                                                 const Quantization& wanted) {
  ModelConfig quantised = config;
  quantised.quantization = wanted;
  std::map<std::string, QuantisedLinear> linears;
  for (const WeightSpec& spec : WeightTable(quantised)) {
    const std::string stem = WithoutEnd(spec.name, "qweight");
    if (stem.empty()) continue;
    const std::string wrapped = WithoutEnd(stem, ".linear.");
    const std::string module = wrapped.empty() ? WithoutEnd(stem, ".") : wrapped;
    linears[module + ".weight"] = {stem, spec.part == Part::kOutput ? wanted.Head() : wanted};
  }
  return linears;
}

/// Quantises each linear when the first of its parts is to be written, and lets go of a part once
/// that is done.
class LinearParts {
 public:
  explicit LinearParts(const Checkpoint& checkpoint)
      : weights_(checkpoint, {}, {}, WeightStorage::kAsStored, {}) {}

  /// The tensors that take the place of `entry`, the weight of `linear`.
  std::vector<TensorSource> SourcesOf(const TensorEntry& entry, const QuantisedLinear& linear) {
    const Quantization& wanted = linear.wanted;
    const int64_t out = entry.shape[0];
    const int64_t in = entry.shape[1];
    const int64_t groups = wanted.GroupsOf(in);
    const int64_t per_word = 32 / wanted.bits;
    const auto part = [this, entry, wanted](at::Tensor ops::LinearWeight::*member) {
      return [this, entry, wanted, member](const ByteSink& sink) {
        ops::LinearWeight& weight = Quantised(entry, wanted);
        Write(weight.*member, sink);
        weight.*member = at::Tensor();
        if (!weight.data.defined() && !weight.zeros.defined() && !weight.scales.defined()) {
          quantised_.erase(entry.name);
        }
      };
    };
    const auto g_idx = [in, group = wanted.GroupOf(in)](const ByteSink& sink) {
      const at::Tensor inputs = at::arange(in, at::kInt);
      Write(at::floor_divide(inputs, group).to(at::kInt), sink);
    };
    const std::string& stem = linear.stem;
    return {
        {stem + "qweight", DType::kI32, {in / per_word, out}, part(&ops::LinearWeight::data)},
        {stem + "qzeros", DType::kI32, {groups, out / per_word}, part(&ops::LinearWeight::zeros)},
        {stem + "scales", DType::kF16, {groups, out}, part(&ops::LinearWeight::scales)},
        {stem + "g_idx", DType::kI32, {in}, g_idx}};
  }

  double relative_error() const {
    return squares_ > 0 ? std::sqrt(squared_error_ / squares_) : 0.0;
  }

 private:
  ops::LinearWeight& Quantised(const TensorEntry& entry, const Quantization& wanted) {
    const auto found = quantised_.find(entry.name);
    if (found != quantised_.end()) return found->second;
    const at::Tensor weight = weights_.Take(entry.name, entry.shape);
    ops::QuantisedWeight done = ops::Quantise(weight, static_cast<int>(wanted.bits),
                                              wanted.GroupOf(entry.shape[1]), entry.name);
    squared_error_ += done.squared_error;
    squares_ += done.squares;
    return quantised_[entry.name] = std::move(done.weight);
  }

  static void Write(const at::Tensor& tensor, const ByteSink& sink) {
    sink({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
  }

  CheckpointWeights weights_;
  std::map<std::string, ops::LinearWeight> quantised_;
  double squared_error_ = 0;
  double squares_ = 0;
};

/// The output matrix as GPTQModel says it: a module of its own beside the layers.
std::string HeadEntries(const Quantization& head) {
  if (!head) return ",\n  \"lm_head\": false";
  return StrCat(",\n  \"lm_head\": true,\n  \"dynamic\": {\"", kHeadModule,
                "\": {\"bits\": ", head.bits, ", \"group_size\": ", head.group_size, "}}");
}

/// As AutoGPTQ writes it, so that its loader and others find what they ask for.
std::filesystem::path WriteQuantizeConfig(const Quantization& wanted,
                                          const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "quantize_config.json";
  std::ofstream file(path, std::ios::binary);
  file << "{\n  \"bits\": " << wanted.bits << ",\n  \"group_size\": " << wanted.group_size
       << ",\n  \"damp_percent\": 0.01,\n  \"desc_act\": false,\n  \"static_groups\": false,\n"
       << "  \"sym\": " << (wanted.bits == 8 ? "true" : "false") << HeadEntries(wanted.Head())
       << ",\n  \"meta\": {\"quantizer\": \"" << kOwnQuantizer << "\"}"
       << ",\n  \"true_sequential\": false,\n  \"model_name_or_path\": null,\n"
       << "  \"model_file_base_name\": null\n}\n";
  if (!file.flush()) {
    throw Error(ErrorKind::kCheckpoint, StrCat("cannot write ", path.string()),
                {{"file", path.string()}});
  }
  return path;
}

}  // namespace

QuantisationReport QuantiseCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const Quantization& asked, int threads,
                                      const std::filesystem::path& directory,
                                      const ConversionOptions& options,
                                      const WriteProgressCallback& progress) {
  const Quantization wanted = asked.ForVocabulary(config.vocab_size);
  RequireOtherDirectory(checkpoint, directory);
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised already (",
          ToString(config.quantization), "); quantise the 16-bit checkpoint");
  CheckWeights(config, HeadersOf(checkpoint));
  const c10::InferenceMode inference;
  cpu::ThreadPool pool(threads > 0 ? threads : cpu::UsableCores());
  const cpu::ThreadPoolScope scope(pool);
  return Translated("quantising the checkpoint", [&] {
    const std::map<std::string, QuantisedLinear> linears = LinearsOf(config, wanted);
    LinearParts parts(checkpoint);
    std::vector<TensorSource> sources;
    for (const TensorEntry& entry : checkpoint.entries()) {
      const auto linear = linears.find(entry.name);
      if (linear == linears.end()) {
        sources.push_back({entry.name, entry.dtype, entry.shape, [&](const ByteSink& sink) {
                             ForEachDenseChunk(entry, checkpoint.Bytes(entry), sink);
                           }});
        continue;
      }
      for (TensorSource& source : parts.SourcesOf(entry, linear->second)) {
        sources.push_back(std::move(source));
      }
    }
    WriteOptions write{.max_shard_bytes = options.max_shard_bytes, .overwrite = options.overwrite};
    write.metadata = checkpoint.metadata();
    write.metadata["format"] = "pt";
    write.metadata["quantization"] = ToString(wanted);
    write.progress = progress;
    WriteReport written = WriteSafetensors(sources, directory, write);
    QuantisationReport report;
    report.written = {.weights = std::move(written.files),
                      .copied = CopyCompanions(checkpoint, directory),
                      .tensors = static_cast<int64_t>(sources.size()),
                      .bytes = written.bytes};
    report.written.copied.push_back(WriteQuantizeConfig(wanted, directory));
    report.linears = static_cast<int64_t>(linears.size());
    report.relative_error = parts.relative_error();
    return report;
  });
}

}  // namespace xcomposer
