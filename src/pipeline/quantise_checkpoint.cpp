#include "pipeline/quantise_checkpoint.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"
#include "ops/quantise.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/plain_tensors.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {
namespace {

static_assert(kOwnPanel == cpu::kPanelOutputs);
static_assert(OwnBlock(4) == cpu::IntegerBlock(cpu::Packing::kInt4));
static_assert(OwnBlock(8) == cpu::IntegerBlock(cpu::Packing::kInt8));

/// What stands before `end` in `text`; empty where it does not end so.
std::string WithoutEnd(const std::string& text, const std::string& end) {
  if (text.size() < end.size()) return "";
  const size_t length = text.size() - end.size();
  return text.compare(length, end.size(), end) == 0 ? text.substr(0, length) : "";
}

/// What becomes of a weight: the tensors `stem`codes, `stem`zeros, `stem`scales.
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
    const std::string stem = WithoutEnd(spec.name, "codes");
    if (stem.empty()) continue;
    linears[stem + "weight"] = {stem, spec.part == Part::kOutput ? wanted.Head() : wanted};
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
  std::vector<TensorSource> SourcesOf(const PlainTensor& entry, const QuantisedLinear& linear) {
    const Quantization& wanted = linear.wanted;
    const int64_t panels = entry.shape[0] / kOwnPanel;
    const int64_t in = entry.shape[1];
    const int64_t groups = wanted.GroupsOf(in);
    const int64_t zeros = kOwnPanel * wanted.bits / 32;
    const auto part = [this, entry, wanted](at::Tensor ops::LinearWeight::*member) {
      return [this, entry, wanted, member](const ByteSink& sink) {
        ops::LinearWeight& weight = Quantised(entry, wanted);
        WriteBytes(weight.*member, sink);
        weight.*member = at::Tensor();
        if (!weight.data.defined() && !weight.zeros.defined() && !weight.scales.defined()) {
          quantised_.erase(entry.name);
        }
      };
    };
    const std::string& stem = linear.stem;
    return {{stem + "codes",
             DType::kI32,
             {panels, in * wanted.bits / 32, kOwnPanel},
             part(&ops::LinearWeight::data)},
            {stem + "zeros", DType::kI32, {panels, groups, zeros}, part(&ops::LinearWeight::zeros)},
            {stem + "scales",
             DType::kF16,
             {panels, groups, kOwnPanel},
             part(&ops::LinearWeight::scales)}};
  }

  CheckpointWeights& weights() { return weights_; }

  double relative_error() const {
    return squares_ > 0 ? std::sqrt(squared_error_ / squares_) : 0.0;
  }

 private:
  ops::LinearWeight& Quantised(const PlainTensor& entry, const Quantization& wanted) {
    const auto found = quantised_.find(entry.name);
    if (found != quantised_.end()) return found->second;
    const at::Tensor weight = weights_.Take(entry.name, entry.shape);
    ops::QuantisedWeight done = ops::Quantise(weight, static_cast<int>(wanted.bits),
                                              wanted.GroupOf(entry.shape[1]), entry.name);
    squared_error_ += done.squared_error;
    squares_ += done.squares;
    return quantised_[entry.name] = std::move(done.weight);
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

/// What people read, and what shapes leave open: the size of groups that do not divide a row.
std::string QuantizeConfig(const Quantization& wanted) {
  return StrCat("{\n  \"quant_method\": \"", kOwnMethod, "\",\n  \"bits\": ", wanted.bits,
                ",\n  \"group_size\": ", wanted.group_size, HeadEntries(wanted.Head()), "\n}\n");
}

/// What fits the longest rows fits the others.
void RequireGroups(const Quantization& wanted, const ModelConfig& config) {
  const int64_t longest = std::max(config.hidden_size, config.intermediate_size);
  Require(wanted.TakesGroupsOf(longest), ErrorKind::kUsage, "the group size is ", wanted.group_size,
          ", expected a multiple of ", OwnBlock(wanted.bits), " for ", wanted.bits,
          " bits, or of 8 from ", longest, " on for whole rows");
}

}  // namespace

QuantisationReport QuantiseCheckpoint(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const Quantization& asked, int threads,
                                      const std::filesystem::path& directory,
                                      const ConversionOptions& options,
                                      const WriteProgressCallback& progress) {
  const Quantization wanted = asked.ForVocabulary(config.vocab_size);
  RequireGroups(wanted, config);
  RequireOtherDirectory(checkpoint, directory);
  Require(!config.quantization, ErrorKind::kUsage, "the checkpoint is quantised already (",
          ToString(config.quantization), "); quantise the 16-bit checkpoint");
  CheckWeights(config, HeadersOf(checkpoint));
  const c10::InferenceMode inference;
  return Translated("quantising the checkpoint", [&] {
    cpu::ThreadPool pool(threads > 0 ? threads : cpu::UsableCores());
    const cpu::ThreadPoolScope scope(pool);
    const std::map<std::string, QuantisedLinear> linears = LinearsOf(config, wanted);
    LinearParts parts(checkpoint);
    std::vector<TensorSource> sources;
    for (const PlainTensor& tensor : PlainTensorsOf(checkpoint, config)) {
      const auto linear = linears.find(tensor.name);
      if (linear == linears.end()) {
        sources.push_back(PlainSource(checkpoint, parts.weights(), tensor));
        continue;
      }
      for (TensorSource& source : parts.SourcesOf(tensor, linear->second)) {
        sources.push_back(std::move(source));
      }
    }
    QuantisationReport report;
    report.written = WriteInPlaceOf(checkpoint, sources, directory, options, progress,
                                    {.metadata = {{"quantization", ToString(wanted)}},
                                     .texts = {{kQuantizeConfig, QuantizeConfig(wanted)}}});
    report.linears = static_cast<int64_t>(linears.size());
    report.relative_error = parts.relative_error();
    return report;
  });
}

}  // namespace xcomposer
