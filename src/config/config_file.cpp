#include "config/config_file.h"

#include <cmath>
#include <vector>

#include "base/check.h"
#include "config/json_text.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

using Json = nlohmann::json;

// Limits far above every member of the family; they keep all later products inside int64.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxCount = int64_t{1} << 12;
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr int64_t kMaxVocab = int64_t{1} << 24;

/// Reads fields and remembers what was missing or wrong, so that one error can name all of it.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  const Json* Find(const char* name, bool required = true) {
    const auto it = json_.find(name);
    if (it != json_.end()) return &*it;
    if (required) missing_.push_back(name);
    return nullptr;
  }

  int64_t Int(const char* name, int64_t low, int64_t high) {
    const Json* value = Find(name);
    return value == nullptr ? low : IntOf(*value, name, low, high);
  }

  std::optional<int64_t> OptionalInt(const char* name, int64_t low, int64_t high) {
    const Json* value = Find(name, false);
    if (value == nullptr || value->is_null()) return std::nullopt;
    return IntOf(*value, name, low, high);
  }

  double Number(const char* name, double low, double high) {
    const Json* value = Find(name);
    if (value == nullptr) return low;
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number >= low && number <= high)) {
      Wrong(StrCat(name, " is ", value->dump(), ", expected a number from ", low, " to ", high));
      return low;
    }
    return number;
  }

  /// A field of which only one value is implemented.
  void Only(const char* name, const Json& expected, bool required) {
    const Json* value = Find(name, required);
    if (value != nullptr && *value != expected) {
      Wrong(StrCat(name, " is ", value->dump(), ", only ", expected.dump(),
                   " exists in this family"));
    }
  }

  void Wrong(std::string problem) { wrong_.push_back(std::move(problem)); }

  bool ok() const { return missing_.empty() && wrong_.empty(); }

  void ThrowIfAny() const {
    if (ok()) return;
    std::string message = "config.json cannot be used";
    for (size_t i = 0; i < missing_.size(); ++i) {
      message += (i == 0 ? "; missing: " : ", ") + missing_[i];
    }
    for (const std::string& problem : wrong_) message += "; " + problem;
    throw Error(ErrorKind::kConfig, message);
  }

 private:
  int64_t IntOf(const Json& value, const char* name, int64_t low, int64_t high) {
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
    const int64_t number = fits ? value.get<int64_t>() : low;
    if (!fits || number < low || number > high) {
      Wrong(StrCat(name, " is ", value.dump(), ", expected an integer from ", low, " to ", high));
      return low;
    }
    return number;
  }

  const Json& json_;
  std::vector<std::string> missing_;
  std::vector<std::string> wrong_;
};

/// null, or exactly {"type": "linear" or "dynamic", "factor": a float of at least 1}; an integer
/// factor is an error, as in the published class.
void ReadRopeScaling(const Json& value, Fields& fields, RopeConfig& rope) {
  if (value.is_null()) return;
  const bool shape = value.is_object() && value.size() == 2 && value.contains("type") &&
                     value.contains("factor") && value["type"].is_string();
  const std::string type = shape ? value["type"].get<std::string>() : "";
  if (type != "linear" && type != "dynamic") {
    fields.Wrong(StrCat("rope_scaling is ", value.dump(), ", expected null or exactly ",
                        R"({"type": "linear" or "dynamic", "factor": F})"));
    return;
  }
  const Json& factor = value["factor"];
  const double number = factor.is_number_float() ? factor.get<double>() : std::nan("");
  if (!(number >= 1.0 && number <= 1e6)) {
    fields.Wrong(StrCat("rope_scaling.factor is ", factor.dump(),
                        ", expected a float (written with a decimal point) of at least 1.0"));
    return;
  }
  rope.scaling = type == "linear" ? RopeConfig::Scaling::kLinear : RopeConfig::Scaling::kDynamic;
  rope.factor = number;
}

void ReadSizes(Fields& fields, ConfigFile& out) {
  out.hidden_size = fields.Int("hidden_size", 1, kMaxWidth);
  out.layers = fields.Int("num_hidden_layers", 1, kMaxCount);
  out.heads = fields.Int("num_attention_heads", 1, kMaxCount);
  out.intermediate_size = fields.Int("intermediate_size", 1, kMaxWidth);
  out.vocab_size = fields.Int("vocab_size", 1, kMaxVocab);
  const Json* kv = fields.Find("num_key_value_heads");
  out.kv_heads = kv == nullptr || kv->is_null() ? out.heads  // null: as many as query heads
                                                : fields.Int("num_key_value_heads", 1, kMaxCount);
  if (!fields.ok()) return;  // these are not the file's numbers
  if (out.hidden_size % out.heads != 0) {
    fields.Wrong(StrCat("hidden_size ", out.hidden_size,
                        " is not a multiple of num_attention_heads ", out.heads));
  } else if (out.hidden_size / out.heads % 2 != 0 || out.hidden_size / out.heads < 4) {
    fields.Wrong(StrCat("the head size ", out.hidden_size / out.heads,
                        " must be even and at least 4 for the rotation"));
  }
  if (out.heads % out.kv_heads != 0) {
    fields.Wrong(StrCat("num_attention_heads ", out.heads,
                        " is not a multiple of num_key_value_heads ", out.kv_heads));
  }
}

}  // namespace

ConfigFile ParseConfigFile(const std::string& text) {
  const Json json = ParseJsonObject(text, ErrorKind::kConfig, "config.json");
  Fields fields(json);
  ConfigFile out;
  ReadSizes(fields, out);
  out.rms_norm_eps = fields.Number("rms_norm_eps", 1e-12, 1.0);
  out.rope.theta = fields.Number("rope_theta", 1.0, 1e15);
  out.rope.max_positions = fields.Int("max_position_embeddings", 1, kMaxPositions);
  if (const Json* scaling = fields.Find("rope_scaling")) {
    ReadRopeScaling(*scaling, fields, out.rope);
  }
  out.max_length = fields.OptionalInt("max_length", 1, kMaxPositions);
  out.img_size = fields.OptionalInt("img_size", 14, 14 * 512);
  const int64_t last_id = out.vocab_size - 1;
  out.bos_id = static_cast<int32_t>(fields.Int("bos_token_id", 0, last_id));
  out.eos_id = static_cast<int32_t>(fields.Int("eos_token_id", 0, last_id));
  out.pad_id =
      static_cast<int32_t>(fields.OptionalInt("pad_token_id", 0, last_id).value_or(out.eos_id));
  fields.Only("hidden_act", "silu", true);
  fields.Only("bias", false, true);
  fields.Only("tie_word_embeddings", false, false);
  if (const Json* dtype = fields.Find("torch_dtype", false);
      dtype != nullptr && dtype->is_string()) {
    out.torch_dtype = dtype->get<std::string>();
  }
  if (const Json* type = fields.Find("model_type", false); type != nullptr && type->is_string()) {
    out.model_type = type->get<std::string>();
  }
  fields.ThrowIfAny();
  if (const Json* stored = fields.Find("quantization_config", false);
      stored != nullptr && !stored->is_null()) {
    out.quantization = ParseQuantization(stored->dump(), "quantization_config of config.json");
  }
  return out;
}

}  // namespace xcomposer
