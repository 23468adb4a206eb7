#include "config/quantization.h"

#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "config/json_text.h"
#include "config/kind.h"
#include "config/model_config.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

using Json = nlohmann::json;
using Method = Quantization::Method;

constexpr const char* kFirstLinear = "model.layers.0.attention.wqkv.";
constexpr int64_t kMaxGroup = int64_t{1} << 20;
constexpr int64_t kUsualBits = 4;
constexpr int64_t kUsualGroup = 128;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Reads single fields and collects what cannot be used.
class Declaration {
 public:
  explicit Declaration(const Json& json) : json_(json) {}

  std::string Text(const char* name) const {
    const auto it = json_.find(name);
    return it != json_.end() && it->is_string() ? Lower(it->get<std::string>()) : "";
  }

  /// Whether "meta" says that this program quantised the checkpoint.
  bool IsOwn() const {
    const auto meta = json_.find("meta");
    if (meta == json_.end() || !meta->is_object()) return false;
    const auto quantizer = meta->find("quantizer");
    return quantizer != meta->end() && *quantizer == kOwnQuantizer;
  }

  std::optional<int64_t> Int(const char* name, int64_t low, int64_t high) {
    const auto it = json_.find(name);
    if (it == json_.end() || it->is_null()) return std::nullopt;
    const bool fits =
        it->is_number_integer() && (!it->is_number_unsigned() || it->get<uint64_t>() <= INT64_MAX);
    const int64_t number = fits ? it->get<int64_t>() : low - 1;
    if (number >= low && number <= high) return number;
    Wrong(StrCat(name, " is ", it->dump(), ", expected an integer from ", low, " to ", high));
    return std::nullopt;
  }

  /// A flag that may be absent but not have the other value.
  void Only(const char* name, bool expected, const char* reason) {
    const auto it = json_.find(name);
    if (it == json_.end() || it->is_null() || *it == expected) return;
    Wrong(StrCat(name, " is ", it->dump(), "; ", reason));
  }

  void Wrong(const std::string& problem) { problems_ += (problems_.empty() ? "" : "; ") + problem; }

  void ThrowIfAny(const std::string& file) const {
    if (problems_.empty()) return;
    throw Error(ErrorKind::kConfig,
                StrCat("the quantisation that ", file, " describes is not read: ", problems_),
                {{"file", file}});
  }

 private:
  const Json& json_;
  std::string problems_;
};

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// By any quantised tensor: a file in which the first layer's is missing is still told apart.
Method MethodOf(const WeightHeaders& headers) {
  for (const auto& [name, header] : headers) {
    if (EndsWith(name, ".linear.qweight")) return Method::kGptq;
    if (EndsWith(name, ".qweight")) return Method::kAwq;
  }
  return Method::kNone;
}

/// Bits of one code, from the shape of wqkv's words; 0 where it tells nothing.
int64_t BitsOf(const WeightHeaders& headers, Method method, int64_t in) {
  if (method == Method::kAwq) {
    const auto words = Extent(headers, StrCat(kFirstLinear, "qweight"), 2, 1);
    const auto outputs = Extent(headers, StrCat(kFirstLinear, "scales"), 2, 1);
    if (!words || !outputs || *outputs <= 0 || *words > INT64_MAX / 32) return 0;
    return *words * 32 % *outputs == 0 ? *words * 32 / *outputs : 0;
  }
  const auto words = Extent(headers, StrCat(kFirstLinear, "linear.qweight"), 2, 0);
  if (!words || in <= 0 || *words > INT64_MAX / 32) return 0;
  return *words * 32 % in == 0 ? *words * 32 / in : 0;
}

int64_t GroupSizeOf(const WeightHeaders& headers, Method method, int64_t in) {
  const char* scales = method == Method::kGptq ? "linear.scales" : "scales";
  const auto groups = Extent(headers, StrCat(kFirstLinear, scales), 2, 0);
  if (!groups || *groups <= 0 || in % *groups != 0) return 0;
  return in / *groups;
}

Method MethodNamed(const std::string& name) {
  if (name == "gptq") return Method::kGptq;
  return name == "awq" ? Method::kAwq : Method::kNone;
}

void RequireReadable(const Quantization& quantization) {
  const bool four = quantization.bits == 4;
  const bool eight = quantization.bits == 8 && quantization.method == Method::kGptq;
  Require(
      four || eight, ErrorKind::kCheckpoint, "the decoder's linears are quantised (",
      quantization.method == Method::kGptq ? "GPTQ" : "AWQ", ") to ", quantization.bits,
      " bits; 4 bits are read, and 8 of GPTQ. Use a checkpoint with one of these, or the 16-bit "
      "checkpoint of the same model");
  Require(quantization.group_size == -1 ||
              (quantization.group_size > 0 && quantization.group_size % 8 == 0),
          ErrorKind::kCheckpoint, "the groups of the quantised linears have ",
          quantization.group_size, " inputs, expected a multiple of 8, or -1 for whole rows");
}

}  // namespace

std::string ToString(const Quantization& quantization) {
  if (!quantization) return "none";
  const std::string name = quantization.method == Method::kGptq ? "GPTQ" : "AWQ";
  const std::string groups = quantization.group_size < 0
                                 ? "one group per row"
                                 : StrCat("groups of ", quantization.group_size);
  return StrCat(name, " ", quantization.bits, " bit, ", groups);
}

DeclaredQuantization ParseQuantization(const std::string& text, const std::string& file) {
  const Json json = ParseJsonObject(text, ErrorKind::kConfig, file);
  Declaration fields(json);
  DeclaredQuantization declared{.file = file,
                                .method = fields.Text("quant_method"),
                                .bits = fields.Int("bits", 1, 16),
                                .group_size = fields.Int("group_size", -1, kMaxGroup),
                                .rounds_activations = fields.IsOwn()};
  if (!declared.method.empty() && MethodNamed(declared.method) == Method::kNone) {
    fields.Wrong(StrCat("quant_method is ", declared.method, ", expected gptq or awq"));
  }
  const std::string layout = fields.Text("checkpoint_format");
  if (!layout.empty() && layout != "gptq") {
    fields.Wrong(StrCat("checkpoint_format is ", layout, ", which stores its zeros differently"));
  }
  fields.Only("desc_act", false, "inputs in the order of their activations are not read");
  if (declared.method == "awq") {
    const std::string version = fields.Text("version");
    if (!version.empty() && version != "gemm") {
      fields.Wrong(StrCat("version is ", version, ", which packs in another order than gemm"));
    }
    fields.Only("zero_point", true, "only AWQ with zeros is read");
  }
  if (declared.group_size && *declared.group_size != -1 &&
      (*declared.group_size <= 0 || *declared.group_size % 8 != 0)) {
    fields.Wrong(StrCat("group_size is ", *declared.group_size,
                        ", expected a multiple of 8, or -1 for whole rows"));
  }
  fields.ThrowIfAny(file);
  return declared;
}

Quantization SettleQuantization(const WeightHeaders* headers,
                                const std::optional<DeclaredQuantization>& declared, int64_t in,
                                std::vector<std::string>& notes) {
  Quantization found;
  if (headers == nullptr) {
    if (!declared) return found;
    found.method = declared->method.empty() ? Method::kGptq : MethodNamed(declared->method);
    found.bits = declared->bits.value_or(kUsualBits);
    found.group_size = declared->group_size.value_or(kUsualGroup);
    found.rounds_activations = declared->rounds_activations;
    RequireReadable(found);
    return found;
  }
  found.method = MethodOf(*headers);
  if (!found) {
    if (declared) {
      notes.push_back(StrCat(declared->file,
                             " describes quantised weights, the tensors are not quantised; the "
                             "tensors decide"));
    }
    return found;
  }
  // 0: not declared, or nothing to be told from the shapes. The comparison with the table of names
  // then says what is wrong with them.
  const int64_t bits = declared ? declared->bits.value_or(0) : 0;
  const int64_t group = declared ? declared->group_size.value_or(0) : 0;
  const int64_t bits_of_shape = BitsOf(*headers, found.method, in);
  const int64_t group_of_shape = GroupSizeOf(*headers, found.method, in);
  Require(bits == 0 || bits_of_shape == 0 || bits == bits_of_shape, ErrorKind::kConfig,
          declared ? declared->file : "", " says ", bits, " bits, the shape of ", kFirstLinear,
          "...qweight says ", bits_of_shape, "; they do not belong together");
  const auto first = [](int64_t a, int64_t b, int64_t c) { return a != 0 ? a : b != 0 ? b : c; };
  found.bits = first(bits_of_shape, bits, kUsualBits);
  found.group_size = first(group, group_of_shape, kUsualGroup);
  found.rounds_activations = declared && declared->rounds_activations;
  RequireReadable(found);
  return found;
}

}  // namespace xcomposer
