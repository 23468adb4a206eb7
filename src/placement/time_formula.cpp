#include "placement/time_formula.h"

#include <algorithm>
#include <vector>

#include "config/weight_names.h"

namespace xcomposer {
namespace {

constexpr int64_t kTextRows = 64;

bool IsLowRank(const std::string& name) {
  return name.find("Plora_") != std::string::npos || name.find("lora_") != std::string::npos;
}

/// The base weights of a part, without low-rank factors: numbers and bytes.
struct Base {
  double numbers = 0;
  double bytes = 0;
};

Base BaseOf(const ModelConfig& config, const Workload& workload, Part part) {
  ModelConfig one = config;  // all layers are alike
  one.layers = 1;
  if (part != Part::kVit) one.vision.layers = 0;  // most of the table
  Base base;
  std::vector<WeightSpec> table = WeightTable(one);
  for (const WeightSpec& spec : table) {
    if (spec.part != part || IsLowRank(spec.name)) continue;
    base.bytes += static_cast<double>(WeightBytes(spec, workload.weights, workload.stored));
  }
  if (config.quantization) {  // codes in a word of the checkpoint are numbers of the product
    one.quantization = {};
    table = WeightTable(one);
  }
  for (const WeightSpec& spec : table) {
    if (spec.part != part || IsLowRank(spec.name)) continue;
    double numbers = 1;
    for (const int64_t extent : spec.shape) numbers *= static_cast<double>(extent);
    base.numbers += numbers;
  }
  return base;
}

double LowRankNumbersOfLayer(const ModelConfig& config) {
  const auto rank = [&](DecoderLinear linear) {
    return static_cast<double>(config.plora_of(linear).rank);
  };
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto inner = static_cast<double>(config.intermediate_size);
  return rank(DecoderLinear::kWqkv) * (hidden + static_cast<double>(config.wqkv_rows())) +
         rank(DecoderLinear::kWo) * 2 * hidden +
         (rank(DecoderLinear::kW1) + rank(DecoderLinear::kW2) + rank(DecoderLinear::kW3)) *
             (hidden + inner);
}

}  // namespace

Work DecodeWorkOfLayer(const ModelConfig& config, const Workload& workload, int64_t sequences,
                       KvType kv) {
  const Base base = BaseOf(config, workload, Part::kLayer);
  const double keys = static_cast<double>(sequences) * static_cast<double>(workload.context);
  Work work;
  work.bytes = base.bytes + keys * static_cast<double>(KvBytesPerPosition(config, kv));
  work.operations = 2 * base.numbers * static_cast<double>(sequences) +
                    4 * keys * static_cast<double>(config.hidden_size);
  return work;
}

Work DecodeWorkOfEmbeddings(const ModelConfig& config, const Workload& workload,
                            int64_t sequences) {
  const Base base = BaseOf(config, workload, Part::kTokEmbeddings);
  Work work;
  work.bytes = base.bytes / static_cast<double>(config.vocab_size) * static_cast<double>(sequences);
  return work;
}

Work DecodeWorkOfHead(const ModelConfig& config, const Workload& workload, int64_t sequences) {
  const Base base = BaseOf(config, workload, Part::kOutput);
  return {base.bytes, 2 * base.numbers * static_cast<double>(sequences)};
}

int64_t PromptRows(const Workload& workload) {
  return std::min(workload.context, workload.images * workload.picture.rows + kTextRows);
}

PromptChunks ChunksOfPrompt(const ModelConfig& config, const Workload& workload) {
  const auto rows = static_cast<double>(PromptRows(workload));
  PromptChunks chunks;
  chunks.count = std::max(1.0, rows / static_cast<double>(workload.prefill_chunk));
  chunks.bytes = rows * static_cast<double>(config.hidden_size) * 4 / chunks.count;
  return chunks;
}

Work PrefillWorkOfLayer(const ModelConfig& config, const Workload& workload) {
  const int64_t rows = PromptRows(workload);
  return PrefillWorkOfLayer(config, workload,
                            {rows, std::min(rows, workload.images * workload.picture.rows)});
}

Work PrefillWorkOfLayer(const ModelConfig& config, const Workload& workload,
                        const PromptShape& prompt) {
  const Base base = BaseOf(config, workload, Part::kLayer);
  const auto rows = static_cast<double>(prompt.rows);
  const auto pictures = static_cast<double>(prompt.picture_rows);
  const double chunks = std::max(1.0, rows / static_cast<double>(workload.prefill_chunk));
  const double low_rank = pictures > 0 ? LowRankNumbersOfLayer(config) : 0;
  Work work;
  work.bytes = (base.bytes + 2 * low_rank) * chunks;
  work.operations = 2 * base.numbers * rows + 2 * low_rank * pictures +
                    2 * rows * rows * static_cast<double>(config.hidden_size);
  return work;
}

Work PictureWork(const ModelConfig& config, const Workload& workload) {
  const VisionConfig& vision = config.vision;
  const Base tower = BaseOf(config, workload, Part::kVit);
  const Base projector = BaseOf(config, workload, Part::kVisionProj);
  const double views =
      vision.tiled
          ? static_cast<double>(1 + workload.picture.tile_rows * workload.picture.tile_columns)
          : 1.0;
  const auto rows = static_cast<double>(vision.patches() + 1);
  const double attention = 4 * rows * rows * static_cast<double>(vision.hidden_size) *
                           static_cast<double>(vision.layers);
  // The position table is part of `tower` but takes part in no product.
  const double table = rows * static_cast<double>(vision.hidden_size);
  Work work;
  work.bytes = tower.bytes + projector.bytes;
  work.operations = views * (2 * (tower.numbers - table) * rows + attention) +
                    2 * projector.numbers * static_cast<double>(workload.picture.rows);
  return work;
}

}  // namespace xcomposer
