#include "config/model_config.h"

#include <cmath>

#include "base/check.h"
#include "base/small_file.h"
#include "config/config_file.h"
#include "config/kind.h"
#include "config/model_descriptions.h"
#include "config/weight_names.h"

namespace xcomposer {
namespace {

constexpr const char* kQuantizeConfig = "quantize_config.json";
constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kPatch = 14;  // pixels; input/tiling counts rows by it
constexpr const char* kVit = "vit.vision_tower.vision_model.";
constexpr std::array<const char*, kDecoderLinears> kLinearNames = {"wqkv", "wo", "w1", "w2", "w3"};
constexpr std::array<const char*, kDecoderLinears> kLinearPaths = {
    "attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"};

/// A size taken from outside the config file, kept in a range that makes every later product safe.
int64_t Bounded(int64_t value, int64_t high, const std::string& what) {
  Require(value >= 0 && value <= high, ErrorKind::kConfig, what, " is ", value, ", expected 0 to ",
          high);
  return value;
}

int64_t VisionLayers(const WeightHeaders& headers) {
  int64_t layers = 0;
  const auto present = [&](int64_t m) {
    return headers.count(StrCat(kVit, "encoder.layers.", m, ".layer_norm1.weight")) != 0;
  };
  while (layers < 4096 && present(layers)) ++layers;
  return layers;
}

VisionConfig DescribedVision(const ModelDescription& description) {
  VisionConfig vision;
  vision.hidden_size = description.Int("vision.hidden_size");
  vision.layers = description.Int("vision.layers");
  vision.intermediate_size = description.Int("vision.intermediate_size");
  vision.patch = description.Int("vision.patch");
  vision.tile = description.Int("vision.tile");
  vision.layer_norm_eps = description.Number("vision.layer_norm_eps");
  vision.tiled = description.Bool("vision.tiled");
  return vision;
}

void TakeVisionSizes(const WeightHeaders& headers, VisionConfig& vision) {
  const std::string embeddings = StrCat(kVit, "embeddings.");
  if (const auto width = Extent(headers, embeddings + "class_embedding", 1, 0)) {
    vision.hidden_size = Bounded(*width, 1 << 20, "the width of the vision tower");
  }
  if (const auto patch = Extent(headers, embeddings + "patch_embedding.weight", 4, 2)) {
    vision.patch = Bounded(*patch, 1024, "the patch size");
  }
  if (const int64_t layers = VisionLayers(headers)) vision.layers = layers;
  if (const auto width = Extent(headers, StrCat(kVit, "encoder.layers.0.mlp.fc1.weight"), 2, 0)) {
    vision.intermediate_size = Bounded(*width, 1 << 20, "the MLP width of the vision tower");
  }
}

/// The tile follows from img_size (untiled kinds) and must agree with the position table.
void SettleTile(const ConfigFile& file, const WeightHeaders* headers, ModelConfig& config) {
  VisionConfig& vision = config.vision;
  if (vision.tiled && file.img_size) {
    config.notes.push_back(StrCat("img_size ", *file.img_size, " of config.json is not used by ",
                                  ToString(config.kind)));
  }
  if (!vision.tiled && file.img_size) vision.tile = *file.img_size;
  const auto rows = headers ? Extent(*headers, kPositionTable, 2, 0) : std::nullopt;
  if (rows) {
    const auto grid = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(*rows - 1))));
    Require(*rows > 1 && *rows < (1 << 20) && grid * grid == *rows - 1, ErrorKind::kConfig,
            "the position table has ", *rows, " rows, expected a square number and one more");
    const bool free_size = vision.tiled || !file.img_size;
    if (free_size) vision.tile = grid * vision.patch;
  }
  Require(vision.patch == kPatch, ErrorKind::kConfig, "the vision tower has patches of ",
          vision.patch, " pixels; all kinds have patches of ", kPatch,
          ", by which pictures are laid out");
  Require(vision.tile > 0 && vision.tile % vision.patch == 0, ErrorKind::kConfig, "img_size ",
          vision.tile, " is not a multiple of the patch size ", vision.patch);
  Require(!rows || vision.patches() + 1 == *rows, ErrorKind::kConfig, "img_size ", vision.tile,
          " of config.json needs a position table of ", vision.patches() + 1,
          " rows, but the tensor has ", rows.value_or(0),
          "; config.json and the weights do not belong together");
  Require(!vision.tiled || vision.grid() % 2 == 0, ErrorKind::kConfig, "the patch grid of ",
          vision.grid(), " is odd and cannot be merged 2x2");
}

void FillVision(const ConfigFile& file, const WeightHeaders* headers,
                const ModelDescription& description, ModelConfig& config) {
  config.vision = DescribedVision(description);
  if (headers) TakeVisionSizes(*headers, config.vision);
  SettleTile(file, headers, config);
  const int64_t head_dim = description.Int("vision.head_dim");
  Require(config.vision.hidden_size > 0 && config.vision.hidden_size % head_dim == 0,
          ErrorKind::kConfig, "the width of the vision tower is ", config.vision.hidden_size,
          ", expected a multiple of ", head_dim);
  config.vision.heads = config.vision.hidden_size / head_dim;
}

void FillAdapters(const WeightHeaders* headers, const ModelDescription& description,
                  ModelConfig& config) {
  const auto rank = [&](const std::string& key, const std::string& tensor, bool may_lack) {
    const int64_t described = description.Int(key);
    if (!headers || described == 0) return described;
    const auto found = Extent(*headers, "model.layers.0." + tensor, 2, 0);
    return Bounded(found.value_or(may_lack ? 0 : described), 1 << 16, "the rank of " + tensor);
  };
  for (size_t i = 0; i < kLinearNames.size(); ++i) {
    const std::string key = StrCat("plora.", kLinearNames[i]);
    config.plora[i].rank = rank(key + ".rank", StrCat(kLinearPaths[i], ".Plora_A.weight"), false);
    config.plora[i].scale = description.Number(key + ".scale");
  }
  // The sibling checkpoints of 2.5 come without the three extra adapters.
  config.adapters.sft = rank("adapters.sft.rank", "attention.wqkv.lora_sft_A.weight", true);
  config.adapters.dpo = rank("adapters.dpo.rank", "attention.wqkv.lora_dpo_A.weight", true);
  config.adapters.web = rank("adapters.web.rank", "attention.wqkv.lora_web_A.weight", true);
}

/// Where the tensors are those of another kind than was named.
void NoteOtherKind(Kind wanted, const ConfigFile& file, const WeightHeaders& headers,
                   std::vector<std::string>& notes) {
  try {
    const Kind found = KindOfTensors(headers, file);
    if (found == wanted) return;
    notes.push_back(StrCat("the tensors are those of ", ToString(found), "; ", ToString(wanted),
                           ", which was named, counts"));
  } catch (const Error&) {
    // They do not tell: that is what naming a kind is for.
  }
}

Kind SettleKind(const ConfigFile& file, const WeightHeaders* headers, std::optional<Kind> wanted,
                std::vector<std::string>& notes) {
  const std::optional<Kind> by_config = KindOfConfig(file);
  if (wanted) {
    if (headers) NoteOtherKind(*wanted, file, *headers, notes);
    return *wanted;
  }
  if (headers) {
    const Kind by_tensors = KindOfTensors(*headers, file);
    if (by_config && *by_config != by_tensors) {
      notes.push_back(StrCat("config.json looks like ", ToString(*by_config), ", the tensors are ",
                             ToString(by_tensors), "; the tensors decide"));
    }
    return by_tensors;
  }
  Require(by_config.has_value(), ErrorKind::kConfig,
          "config.json does not tell the model's kind (img_size ",
          file.img_size ? std::to_string(*file.img_size) : "absent",
          ", expected 224 or 490, or none with rope_scaling null or dynamic); ", kKindAdvice);
  return *by_config;
}

}  // namespace

ModelConfig ParseConfig(const std::string& text, const std::optional<WeightHeaders>& headers,
                        std::optional<Kind> kind,
                        const std::optional<std::string>& quantize_config) {
  const ConfigFile file = ParseConfigFile(text);
  const WeightHeaders* tensors = headers ? &*headers : nullptr;
  ModelConfig config;
  config.kind = SettleKind(file, tensors, kind, config.notes);
  const ModelDescription description(config.kind);
  config.hidden_size = file.hidden_size;
  config.layers = file.layers;
  config.heads = file.heads;
  config.kv_heads = file.kv_heads;
  config.intermediate_size = file.intermediate_size;
  config.vocab_size = file.vocab_size;
  config.rms_norm_eps = file.rms_norm_eps;
  config.rope = file.rope;
  config.max_length = file.max_length ? *file.max_length : description.Int("max_length");
  config.bos_id = file.bos_id;
  config.eos_id = file.eos_id;
  config.pad_id = file.pad_id;
  config.torch_dtype = file.torch_dtype;
  std::optional<DeclaredQuantization> declared = file.quantization;
  if (quantize_config) {
    try {
      declared = ParseQuantization(*quantize_config, kQuantizeConfig);
    } catch (const Error& error) {
      throw error.With("file", kQuantizeConfig);
    }
  }
  config.quantization = SettleQuantization(tensors, declared, config.hidden_size, config.notes);
  config.before_february_2024 =
      config.quantization.method == Quantization::Method::kGptq && file.model_type == "internlm";
  FillVision(file, tensors, description, config);
  FillAdapters(tensors, description, config);
  if (tensors != nullptr) config.in_12_bits = WeightsIn12Bits(config, *tensors);
  return config;
}

ModelConfig LoadConfig(const std::filesystem::path& path,
                       const std::optional<WeightHeaders>& headers, std::optional<Kind> kind) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const auto file = is_folder ? path / "config.json" : path;
  const std::string text = ReadSmallFile(file, kMaxConfigBytes, ErrorKind::kConfig);
  std::optional<std::string> quantize_config;
  if (is_folder && std::filesystem::exists(path / kQuantizeConfig, ignored)) {
    quantize_config = ReadSmallFile(path / kQuantizeConfig, kMaxConfigBytes, ErrorKind::kConfig);
  }
  try {
    return ParseConfig(text, headers, kind, quantize_config);
  } catch (const Error& error) {
    const bool other = error.where().count("file") > 0;
    throw error.With("file", (other ? path / error.where().at("file") : file).string());
  }
}

}  // namespace xcomposer
