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
constexpr int64_t kUsualHeadBits = 8;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Reads single fields and collects what cannot be used.
class Declaration {
 public:
  /// `module`: whose fields these are where they are not the whole object's.
  explicit Declaration(const Json& json, std::string module = "")
      : json_(json), module_(std::move(module)) {}

  std::string Text(const char* name) const {
    const auto it = json_.find(name);
    return it != json_.end() && it->is_string() ? Lower(it->get<std::string>()) : "";
  }

  std::optional<int64_t> Int(const char* name, int64_t low, int64_t high) {
    const auto it = json_.find(name);
    if (it == json_.end() || it->is_null()) return std::nullopt;
    const bool fits =
        it->is_number_integer() && (!it->is_number_unsigned() || it->get<uint64_t>() <= INT64_MAX);
    const int64_t number = fits ? it->get<int64_t>() : low - 1;
    if (number >= low && number <= high) return number;
    Wrong(StrCat(module_, name, " is ", it->dump(), ", expected an integer from ", low, " to ",
                 high));
    return std::nullopt;
  }

  /// Inputs of a group that kernels take.
  std::optional<int64_t> GroupSize() {
    const std::optional<int64_t> size = Int("group_size", -1, kMaxGroup);
    if (size && *size != -1 && (*size <= 0 || *size % 8 != 0)) {
      Wrong(StrCat(module_, "group_size is ", *size,
                   ", expected a multiple of 8, or -1 for whole rows"));
    }
    return size;
  }

  bool Flag(const char* name) const {
    const auto it = json_.find(name);
    return it != json_.end() && *it == true;
  }

  /// What "dynamic" says about a module, by its name alone: GPTQModel's other keys are patterns.
  const Json* Dynamic(const std::string& module) const {
    const auto all = json_.find("dynamic");
    if (all == json_.end() || !all->is_object()) return nullptr;
    for (const std::string& key : {module, "+:" + module}) {
      const auto one = all->find(key);
      if (one != all->end() && one->is_object()) return &*one;
    }
    return nullptr;
  }

  /// A flag that may be absent but not have the other value.
  void Only(const char* name, bool expected, const char* reason) {
    const auto it = json_.find(name);
    if (it == json_.end() || it->is_null() || *it == expected) return;
    Wrong(StrCat(module_, name, " is ", it->dump(), "; ", reason));
  }

  void Wrong(const std::string& problem) { problems_ += (problems_.empty() ? "" : "; ") + problem; }

  /// Makes the problems of `part` those of this.
  void TakeProblems(const Declaration& part) {
    if (!part.problems_.empty()) Wrong(part.problems_);
  }

  void ThrowIfAny(const std::string& file) const {
    if (problems_.empty()) return;
    throw Error(ErrorKind::kConfig,
                StrCat("the quantisation that ", file, " describes is not read: ", problems_),
                {{"file", file}});
  }

 private:
  const Json& json_;
  std::string module_;
  std::string problems_;
};

/// By any quantised tensor of the layers: a file in which the first layer's is missing is still
/// told apart.
Method MethodOf(const WeightHeaders& headers) {
  const std::string head = StrCat(kHeadModule, ".");
  for (const auto& [name, header] : headers) {
    if (name.starts_with(head)) continue;
    if (name.ends_with(".codes")) return Method::kOwn;
    if (name.ends_with(".linear.qweight")) return Method::kGptq;
    if (name.ends_with(".qweight")) return Method::kAwq;
  }
  return Method::kNone;
}

/// The parts of a quantised linear that tell its bits and groups, and the axis of both that is
/// along the inputs.
struct Parts {
  std::string words;
  std::string scales;
  size_t axes = 2;
  size_t axis = 0;
};

Parts PartsOf(Method method, const std::string& stem) {
  if (method == Method::kOwn) return {stem + "codes", stem + "scales", 3, 1};
  return {stem + "qweight", stem + "scales"};
}

Parts LayerParts(Method method) {
  return PartsOf(method, StrCat(kFirstLinear, method == Method::kGptq ? "linear." : ""));
}

Parts HeadParts(Method method) { return PartsOf(method, StrCat(kHeadModule, ".")); }

/// Bits of the codes of `in` inputs in so many words; 0 where that tells nothing.
int64_t BitsOfWords(const std::optional<int64_t>& words, int64_t in) {
  if (!words || in <= 0 || *words > INT64_MAX / 32) return 0;
  return *words * 32 % in == 0 ? *words * 32 / in : 0;
}

int64_t SizeOfGroups(const std::optional<int64_t>& groups, int64_t in) {
  return groups && *groups > 0 && in % *groups == 0 ? in / *groups : 0;
}

/// Of what is quantised so and does not say.
int64_t UsualGroup(Method method, int64_t bits) {
  return method == Method::kOwn ? OwnBlock(bits) : 128;
}

/// Bits of one code, from the shape of wqkv's words; 0 where it tells nothing.
int64_t BitsOf(const WeightHeaders& headers, Method method, int64_t in) {
  const Parts parts = LayerParts(method);
  if (method == Method::kAwq) {
    const auto words = Extent(headers, parts.words, 2, 1);
    const auto outputs = Extent(headers, parts.scales, 2, 1);
    if (!words || !outputs || *outputs <= 0 || *words > INT64_MAX / 32) return 0;
    return *words * 32 % *outputs == 0 ? *words * 32 / *outputs : 0;
  }
  return BitsOfWords(Extent(headers, parts.words, parts.axes, parts.axis), in);
}

/// Of the linear whose parts these are, its bits settled; 0 where the shape of its scales tells
/// nothing. Rows shorter than an own group are one group, as rows that are one by intent: the size
/// that this program gives goes first where it fits.
int64_t GroupSizeOf(const WeightHeaders& headers, const Parts& parts, Method method, int64_t bits,
                    int64_t in) {
  const auto groups = Extent(headers, parts.scales, parts.axes, parts.axis);
  if (method != Method::kOwn || !groups) return SizeOfGroups(groups, in);
  const int64_t usual = UsualGroup(method, bits);
  if (*groups == (in + usual - 1) / usual) return usual;
  return *groups == 1 ? -1 : SizeOfGroups(groups, in);
}

int64_t First(int64_t a, int64_t b, int64_t c) { return a != 0 ? a : b != 0 ? b : c; }

Method MethodNamed(const std::string& name) {
  if (name == kOwnMethod) return Method::kOwn;
  if (name == "gptq") return Method::kGptq;
  return name == "awq" ? Method::kAwq : Method::kNone;
}

const char* NameOf(Method method) {
  if (method == Method::kOwn) return kOwnMethod;
  return method == Method::kGptq ? "GPTQ" : "AWQ";
}

void RequireGroups(const char* what, const Quantization& quantization, int64_t in) {
  const bool own = quantization.method == Method::kOwn;
  Require(quantization.TakesGroupsOf(in), ErrorKind::kCheckpoint, "the groups of the quantised ",
          what, " have ", quantization.group_size, " inputs, expected a multiple of ",
          own ? OwnBlock(quantization.bits) : 8, ", or -1 for whole rows");
}

/// `in`: inputs of the linear that told, and of the output matrix.
void RequireReadable(const Quantization& quantization, int64_t in) {
  const bool four = quantization.bits == 4;
  const bool eight = quantization.bits == 8 && quantization.method != Method::kAwq;
  Require(four || eight, ErrorKind::kCheckpoint, "the decoder's linears are quantised (",
          NameOf(quantization.method), ") to ", quantization.bits,
          " bits; 4 bits are read, and 8 of GPTQ and ", kOwnMethod,
          ". Use a checkpoint with one of these, or the 16-bit checkpoint of the same model");
  RequireGroups("linears", quantization, in);
  if (quantization.head_bits == 0) return;
  Require(quantization.head_bits == 4 || quantization.head_bits == 8, ErrorKind::kCheckpoint,
          "the output matrix is quantised to ", quantization.head_bits,
          " bits; 4 and 8 are read. Use a checkpoint with one of these, or one whose output matrix "
          "is not quantised");
  RequireGroups("output matrix", quantization.Head(), in);
}

/// What is declared (0: nothing) and what the shape of `words` says (0: nothing).
void RequireSameBits(const std::optional<DeclaredQuantization>& declared, int64_t bits,
                     const char* what, int64_t bits_of_shape, const std::string& words) {
  if (bits == 0 || bits_of_shape == 0 || bits == bits_of_shape) return;
  throw Error(ErrorKind::kConfig,
              StrCat(declared->file, " says ", bits, " ", what, ", the shape of ", words, " says ",
                     bits_of_shape, "; they do not belong together"),
              {{"file", declared->file}});
}

/// Adds the output matrix to `found`, whose layers are settled: quantised where it has words.
void SettleHead(const WeightHeaders* headers, const std::optional<DeclaredQuantization>& declared,
                int64_t in, Quantization& found, std::vector<std::string>& notes) {
  const bool is_declared = declared && declared->head;
  // 0: not declared. Without numbers of its own it has those of the layers.
  const int64_t bits = is_declared ? declared->head_bits.value_or(declared->bits.value_or(0)) : 0;
  const int64_t group =
      is_declared ? declared->head_group_size.value_or(declared->group_size.value_or(0)) : 0;
  if (headers == nullptr) {
    if (!is_declared) return;
    found.head_bits = First(bits, found.bits, kUsualHeadBits);
    found.head_group_size =
        First(group, found.group_size, UsualGroup(found.method, found.head_bits));
    return;
  }
  const Parts parts = HeadParts(found.method);
  if (headers->count(parts.words) == 0) {
    if (is_declared) {
      notes.push_back(StrCat(declared->file,
                             " describes a quantised output matrix, the tensor is not quantised; "
                             "the tensor decides"));
    }
    return;
  }
  const int64_t bits_of_shape =
      BitsOfWords(Extent(*headers, parts.words, parts.axes, parts.axis), in);
  RequireSameBits(declared, bits, "bits for the output matrix", bits_of_shape, parts.words);
  found.head_bits = First(bits_of_shape, bits, kUsualHeadBits);
  found.head_group_size =
      First(group, GroupSizeOf(*headers, parts, found.method, found.head_bits, in),
            UsualGroup(found.method, found.head_bits));
}

std::string CodesOf(int64_t bits, int64_t group_size) {
  return group_size < 0 ? StrCat(bits, " bit, one group per row")
                        : StrCat(bits, " bit, groups of ", group_size);
}

}  // namespace

Quantization Quantization::Head() const {
  if (head_bits == 0) return {};
  return {method, head_bits, head_group_size};
}

bool Quantization::TakesGroupsOf(int64_t in) const {
  if (group_size == -1) return true;
  if (group_size <= 0 || group_size % 8 != 0) return false;
  return method != Method::kOwn || group_size >= in || group_size % OwnBlock(bits) == 0;
}

Quantization Quantization::ForVocabulary(int64_t vocab_size) const {
  Quantization fitting = *this;
  if (vocab_size % kOwnPanel != 0) fitting.head_bits = fitting.head_group_size = 0;
  return fitting;
}

std::string ToString(const Quantization& quantization) {
  if (!quantization) return "none";
  std::string text =
      StrCat(NameOf(quantization.method), " ", CodesOf(quantization.bits, quantization.group_size));
  if (quantization.head_bits != 0) {
    text += ", output " + CodesOf(quantization.head_bits, quantization.head_group_size);
  }
  return text;
}

DeclaredQuantization ParseQuantization(const std::string& text, const std::string& file) {
  const Json json = ParseJsonObject(text, ErrorKind::kConfig, file);
  Declaration fields(json);
  DeclaredQuantization declared{.file = file,
                                .method = fields.Text("quant_method"),
                                .bits = fields.Int("bits", 1, 16),
                                .group_size = fields.GroupSize(),
                                .head = fields.Flag("lm_head")};
  if (const Json* own = fields.Dynamic(kHeadModule); declared.head && own != nullptr) {
    Declaration head(*own, "dynamic.output.");
    declared.head_bits = head.Int("bits", 1, 16);
    declared.head_group_size = head.GroupSize();
    head.Only("desc_act", false, "inputs in the order of their activations are not read");
    fields.TakeProblems(head);
  }
  if (!declared.method.empty() && MethodNamed(declared.method) == Method::kNone) {
    fields.Wrong(
        StrCat("quant_method is ", declared.method, ", expected gptq, awq or ", kOwnMethod));
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
    found.group_size = declared->group_size.value_or(UsualGroup(found.method, found.bits));
    if (found.method != Method::kAwq) SettleHead(nullptr, declared, in, found, notes);
    RequireReadable(found, in);
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
  RequireSameBits(declared, bits, "bits", bits_of_shape, LayerParts(found.method).words);
  found.bits = First(bits_of_shape, bits, kUsualBits);
  found.group_size =
      First(group, GroupSizeOf(*headers, LayerParts(found.method), found.method, found.bits, in),
            UsualGroup(found.method, found.bits));
  if (found.method != Method::kAwq) SettleHead(headers, declared, in, found, notes);
  RequireReadable(found, in);
  return found;
}

}  // namespace xcomposer
