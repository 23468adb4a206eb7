#include "config/weight_names.h"

#include <algorithm>
#include <set>

#include "base/check.h"

namespace xcomposer {
namespace {

using Shape = std::vector<int64_t>;

class Table {
 public:
  explicit Table(const ModelConfig& config) : config_(config) {}

  std::vector<WeightSpec> Build() {
    const int64_t hidden = config_.hidden_size;
    const VisionConfig& vision = config_.vision;
    At(Part::kVit);
    Vit("vit.vision_tower.vision_model.");
    At(Part::kVisionProj);
    Affine("vision_proj.0", hidden, vision.merged_width());
    Affine("vision_proj.2", hidden, hidden);
    if (vision.tiled) {
      At(Part::kSeparators);
      Add("plora_glb_GN", {1, 1, vision.merged_width()});
      Add("plora_sub_GN", {1, 1, 1, vision.merged_width()});
    }
    At(Part::kTokEmbeddings);
    Add("model.tok_embeddings.weight", {config_.vocab_size, hidden});
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      At(Part::kLayer, layer);
      Layer(StrCat("model.layers.", layer, "."));
    }
    At(Part::kNorm);
    Add("model.norm.weight", {hidden});
    At(Part::kOutput);
    Output(config_.vocab_size, hidden);
    return std::move(specs_);
  }

 private:
  void At(Part part, int64_t layer = -1) {
    part_ = part;
    layer_ = layer;
  }

  void Add(const std::string& name, Shape shape) {
    AddPart(name, std::move(shape), NumberKind::kFloat);
  }

  void Affine(const std::string& name, int64_t out, int64_t in) {
    Add(name + ".weight", {out, in});
    Add(name + ".bias", {out});
  }

  void LayerNorm(const std::string& name) {
    Add(name + ".weight", {config_.vision.hidden_size});
    Add(name + ".bias", {config_.vision.hidden_size});
  }

  void Vit(const std::string& model) {
    const VisionConfig& vision = config_.vision;
    const int64_t width = vision.hidden_size;
    Add(model + "embeddings.class_embedding", {width});
    Add(model + "embeddings.patch_embedding.weight", {width, 3, vision.patch, vision.patch});
    Add(model + "embeddings.position_embedding.weight", {vision.patches() + 1, width});
    LayerNorm(model + "pre_layrnorm");  // spelt so in CLIP
    for (int64_t m = 0; m < vision.layers; ++m) {
      const std::string layer = StrCat(model, "encoder.layers.", m, ".");
      LayerNorm(layer + "layer_norm1");
      for (const char* projection : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
        Affine(layer + "self_attn." + projection, width, width);
      }
      LayerNorm(layer + "layer_norm2");
      Affine(layer + "mlp.fc1", vision.intermediate_size, width);
      Affine(layer + "mlp.fc2", width, vision.intermediate_size);
    }
  }

  void Layer(const std::string& layer) {
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.intermediate_size;
    Add(layer + "attention_norm.weight", {hidden});
    Linear(layer + "attention.wqkv", DecoderLinear::kWqkv, config_.wqkv_rows(), hidden);
    Linear(layer + "attention.wo", DecoderLinear::kWo, hidden, hidden);
    Add(layer + "ffn_norm.weight", {hidden});
    Linear(layer + "feed_forward.w1", DecoderLinear::kW1, inner, hidden);
    Linear(layer + "feed_forward.w3", DecoderLinear::kW3, inner, hidden);
    Linear(layer + "feed_forward.w2", DecoderLinear::kW2, hidden, inner);
  }

  void Linear(const std::string& name, DecoderLinear linear, int64_t out, int64_t in) {
    Base(name, out, in);
    LowRank(name + ".Plora_", config_.plora_of(linear).rank, out, in);
    if (config_.adapters.sft > 0) LowRank(name + ".lora_sft_", config_.adapters.sft, out, in);
    if (config_.adapters.dpo > 0) LowRank(name + ".lora_dpo_", config_.adapters.dpo, out, in);
    if (config_.adapters.web > 0) LowRank(name + ".lora_web_", config_.adapters.web, out, in);
  }

  void Base(const std::string& name, int64_t out, int64_t in) {
    const Quantization& stored = config_.quantization;
    switch (stored.method) {
      case Quantization::Method::kNone:
        Matrix(name + ".weight", out, in);
        return;
      case Quantization::Method::kGptq:
        Gptq(name + ".linear.", stored, out, in);
        AddPart(name + ".linear.bias", {out}, NumberKind::kFloat, true);
        return;
      case Quantization::Method::kAwq: {
        const int64_t groups = stored.GroupsOf(in);
        AddPart(name + ".qweight", {in, out / 8}, NumberKind::kInt32);
        AddPart(name + ".qzeros", {groups, out / 8}, NumberKind::kInt32);
        AddPart(name + ".scales", {groups, out}, NumberKind::kFloat16);
        return;
      }
      case Quantization::Method::kOwn:
        Own(name + ".", stored, out, in);
        return;
    }
  }

  void Own(const std::string& stem, const Quantization& stored, int64_t out, int64_t in) {
    const int64_t panels = out / kOwnPanel;
    const int64_t groups = stored.GroupsOf(in);
    const int64_t zeros = kOwnPanel * stored.bits / 32;
    AddPart(stem + "codes", {panels, in * stored.bits / 32, kOwnPanel}, NumberKind::kInt32);
    AddPart(stem + "zeros", {panels, groups, zeros}, NumberKind::kInt32);
    AddPart(stem + "scales", {panels, groups, kOwnPanel}, NumberKind::kFloat16);
  }

  void Gptq(const std::string& stem, const Quantization& stored, int64_t out, int64_t in) {
    const int64_t groups = stored.GroupsOf(in);
    AddPart(stem + "qweight", {in * stored.bits / 32, out}, NumberKind::kInt32);
    AddPart(stem + "qzeros", {groups, out * stored.bits / 32}, NumberKind::kInt32);
    AddPart(stem + "scales", {groups, out}, NumberKind::kFloat16);
    AddPart(stem + "g_idx", {in}, NumberKind::kInt32, true);
  }

  void Output(int64_t out, int64_t in) {
    const std::string stem = StrCat(kHeadModule, ".");
    const Quantization stored = config_.quantization.Head();
    if (stored.method == Quantization::Method::kOwn) return Own(stem, stored, out, in);
    if (stored) return Gptq(stem, stored, out, in);
    Matrix(stem + "weight", out, in);
  }

  void Matrix(const std::string& name, int64_t out, int64_t in) {
    Add(name, {out, in});
    specs_.back().linear = true;
    if (!config_.in_12_bits.empty()) specs_.back().in_12_bits = config_.in_12_bits.contains(name);
  }

  void AddPart(const std::string& name, Shape shape, NumberKind type, bool optional = false) {
    specs_.push_back({name, std::move(shape), part_, layer_, type, optional});
  }

  void LowRank(const std::string& stem, int64_t rank, int64_t out, int64_t in) {
    Add(stem + "A.weight", {rank, in});
    Add(stem + "B.weight", {out, rank});
  }

  const ModelConfig& config_;
  std::vector<WeightSpec> specs_;
  Part part_ = Part::kVit;
  int64_t layer_ = -1;
};

// An unknown tensor of these cannot be passed over: it may be an adapter, or the packed form, of
// what is computed with.
class ComputingModules {
 public:
  void AddModuleOf(const std::string& weight) {
    const size_t end = weight.rfind('.');
    if (end != std::string::npos) modules_.insert(weight.substr(0, end));
  }

  bool Contains(const std::string& name) const {
    for (const char* layers : {"model.layers.", "vit.vision_tower.vision_model.encoder.layers."}) {
      if (name.rfind(layers, 0) == 0) return true;
    }
    for (size_t end = name.find('.'); end != std::string::npos; end = name.find('.', end + 1)) {
      if (modules_.count(name.substr(0, end)) != 0) return true;
    }
    return false;
  }

 private:
  std::set<std::string> modules_;
};

std::string Printed(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

const char* Names(NumberKind type) {
  switch (type) {
    case NumberKind::kFloat:
      return "BF16, F16 or F32";
    case NumberKind::kFloat16:
      return "F16";
    case NumberKind::kInt32:
      break;
  }
  return "I32";
}

bool Fits(const std::string& dtype, NumberKind type) {
  if (type == NumberKind::kFloat) return dtype == "BF16" || dtype == "F16" || dtype == "F32";
  return dtype == Names(type);
}

std::string Mismatch(const std::string& name, const WeightHeader& found,
                     const std::string& expected) {
  return StrCat(name, ": found ", found.dtype, " ", Printed(found.shape), ", expected ", expected);
}

std::string Expected(const Shape& shape, NumberKind type) {
  return StrCat(Printed(shape), " of ", Names(type));
}

constexpr const char* kWeight = ".weight";
constexpr const char* kBf12 = ".bf12.";

/// The shape of the words of a matrix that 12 bits a number can hold; nothing for others.
std::optional<Shape> ShapeOfBf12(const WeightSpec& spec) {
  if (!spec.linear) return std::nullopt;
  const int64_t outputs = spec.shape[0];
  const int64_t inputs = spec.shape[1];
  if (outputs % kBf12Outputs != 0 || inputs % kBf12Inputs != 0) return std::nullopt;
  return Shape{outputs / kBf12Outputs, inputs / kBf12Inputs, kBf12BlockWords};
}

/// Compares the parts that stand for `spec`, and adds them to `known`. False where its words are
/// not there: then nothing stands for it.
bool CompareBf12(const WeightSpec& spec, const WeightHeaders& headers, std::set<std::string>& known,
                 WeightDifferences& differences) {
  const std::optional<Shape> words = ShapeOfBf12(spec);
  const Bf12Names names = Bf12NamesOf(spec.name);
  if (!words || headers.count(names.words) == 0) return false;
  const auto compare = [&](const std::string& name, const auto& fits, const std::string& expected) {
    known.insert(name);
    const auto it = headers.find(name);
    if (it == headers.end()) {
      differences.missing.push_back(name);
    } else if (!fits(it->second)) {
      differences.mismatched.push_back(Mismatch(name, it->second, expected));
    }
  };
  const auto exactly = [&](const std::string& name, const Shape& shape, const char* dtype) {
    compare(
        name, [&](const WeightHeader& it) { return it.shape == shape && it.dtype == dtype; },
        StrCat(Printed(shape), " of ", dtype));
  };
  exactly(names.words, *words, "I32");
  exactly(names.scales, {spec.shape[0]}, "F32");
  const int64_t least = (*words)[0] + 1;
  compare(
      names.outliers,
      [&](const WeightHeader& it) {
        return it.shape.size() == 1 && it.shape[0] >= least && it.dtype == "I32";
      },
      StrCat("at least ", Printed({least}), " of I32"));
  return true;
}

void Append(std::string& message, const char* title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  message += StrCat("\n", lines.size(), " ", title, ":");
  for (const std::string& line : lines) message += "\n  " + line;
}

}  // namespace

Bf12Names Bf12NamesOf(const std::string& weight) {
  const std::string stem = weight.substr(0, weight.size() - std::string(kWeight).size()) + kBf12;
  return {.words = stem + "words", .scales = stem + "scales", .outliers = stem + "outliers"};
}

std::optional<std::string> WeightOfBf12(const std::string& part) {
  const size_t end = part.rfind(kBf12);
  if (end == std::string::npos) return std::nullopt;
  std::string weight = part.substr(0, end) + kWeight;
  const Bf12Names names = Bf12NamesOf(weight);
  if (part != names.words && part != names.scales && part != names.outliers) return std::nullopt;
  return weight;
}

std::set<std::string> WeightsIn12Bits(const ModelConfig& config, const WeightHeaders& headers) {
  std::set<std::string> weights;
  for (const WeightSpec& spec : WeightTable(config)) {
    if (!ShapeOfBf12(spec) || headers.count(spec.name) != 0) continue;
    if (headers.count(Bf12NamesOf(spec.name).words) != 0) weights.insert(spec.name);
  }
  return weights;
}

std::vector<WeightSpec> WeightTable(const ModelConfig& config) { return Table(config).Build(); }

bool IsIgnoredWeight(const std::string& name) {
  const auto ends_with = [&](const std::string& end) {
    return name.size() >= end.size() &&
           name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  const std::string model = "vit.vision_tower.vision_model.";
  return name == model + "embeddings.position_ids" || name == model + "post_layernorm.weight" ||
         name == model + "post_layernorm.bias" || name.rfind("video_mem_proj.", 0) == 0 ||
         (name.rfind("model.layers.", 0) == 0 && ends_with(".attention.rotary_emb.inv_freq"));
}

WeightDifferences CompareWeights(const ModelConfig& config, const WeightHeaders& headers) {
  WeightDifferences differences;
  std::set<std::string> known;
  ComputingModules computing;
  for (const WeightSpec& spec : WeightTable(config)) {
    known.insert(spec.name);
    computing.AddModuleOf(spec.name);
    const auto it = headers.find(spec.name);
    if (it == headers.end()) {
      if (CompareBf12(spec, headers, known, differences)) continue;
      if (!spec.optional) differences.missing.push_back(spec.name);
      continue;
    }
    const WeightHeader& found = it->second;
    if (found.shape != spec.shape || !Fits(found.dtype, spec.numbers)) {
      differences.mismatched.push_back(
          Mismatch(spec.name, found, Expected(spec.shape, spec.numbers)));
    }
  }
  for (const auto& [name, header] : headers) {
    if (known.count(name) != 0 || IsIgnoredWeight(name)) continue;
    (computing.Contains(name) ? differences.unexpected : differences.unused).push_back(name);
  }
  return differences;
}

std::vector<std::string> CheckWeights(const ModelConfig& config, const WeightHeaders& headers) {
  WeightDifferences differences = CompareWeights(config, headers);
  if (differences.none()) return std::move(differences.unused);
  std::string message = StrCat("the tensors are not those that config.json implies for a ",
                               ToString(config.kind), " with ", config.layers, " layers");
  Append(message, "missing", differences.missing);
  Append(message, "unexpected", differences.unexpected);
  Append(message, "with another shape or type", differences.mismatched);
  throw Error(ErrorKind::kCheckpoint, message);
}

std::string UnusedNote(const std::vector<std::string>& unused) {
  constexpr size_t kNamed = 10;
  std::string note =
      StrCat("tensors that belong to no part of the model are not used (", unused.size(), "): ");
  for (size_t i = 0; i < std::min(kNamed, unused.size()); ++i) note += (i ? ", " : "") + unused[i];
  if (unused.size() > kNamed) note += StrCat(", and ", unused.size() - kNamed, " more");
  return note;
}

int64_t ParameterCount(const ModelConfig& config) {
  ModelConfig plain = config;
  plain.quantization = {};
  int64_t total = 0;
  for (const WeightSpec& spec : WeightTable(plain)) {
    int64_t count = 1;
    for (const int64_t extent : spec.shape) count *= extent;
    total += count;
  }
  return total;
}

}  // namespace xcomposer
