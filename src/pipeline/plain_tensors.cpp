#include "pipeline/plain_tensors.h"

#include <optional>
#include <set>

#include "config/weight_names.h"

namespace xcomposer {

std::vector<PlainTensor> PlainTensorsOf(const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::set<std::string> in_12_bits = WeightsIn12Bits(config, HeadersOf(checkpoint));
  std::vector<PlainTensor> tensors;
  for (const TensorEntry& entry : checkpoint.entries()) {
    const std::optional<std::string> weight = WeightOfBf12(entry.name);
    if (!weight || !in_12_bits.contains(*weight)) {
      tensors.push_back({entry.name, entry.shape, &entry});
    } else if (entry.name == Bf12NamesOf(*weight).words) {
      tensors.push_back(
          {*weight, {entry.shape.at(0) * kBf12Outputs, entry.shape.at(1) * kBf12Inputs}});
    }
  }
  return tensors;
}

TensorSource PlainSource(const Checkpoint& checkpoint, CheckpointWeights& weights,
                         const PlainTensor& tensor) {
  if (tensor.entry != nullptr) return SourceOf(checkpoint, *tensor.entry);
  return {tensor.name, DType::kBF16, tensor.shape,
          [&weights, name = tensor.name, shape = tensor.shape](const ByteSink& sink) {
            WriteBytes(weights.Take(name, shape), sink);
          }};
}

void WriteBytes(const at::Tensor& tensor, const ByteSink& sink) {
  sink({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
}

}  // namespace xcomposer
