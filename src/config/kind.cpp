#include "config/kind.h"

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr int64_t kHidden1_8b = 2048;

Kind WithoutTiles(int64_t table_rows, const ConfigFile& file) {
  if (table_rows == 16 * 16 + 1) return Kind::k2_7b;
  return file.hidden_size == kHidden1_8b ? Kind::kVl1_8b : Kind::kVl7b;
}

}  // namespace

const char* ToString(Kind kind) {
  switch (kind) {
    case Kind::k2_7b:
      return "2-7b";
    case Kind::kVl7b:
      return "2-vl-7b";
    case Kind::k4khd7b:
      return "2-4khd-7b";
    case Kind::k25_7b:
      return "2.5-7b";
    case Kind::kVl1_8b:
      return "2-vl-1.8b";
  }
  return "unknown";
}

Kind ParseKind(const std::string& name) {
  std::string names;
  for (const Kind kind : kAllKinds) {
    if (name == ToString(kind)) return kind;
    names += (names.empty() ? "" : ", ") + std::string(ToString(kind));
  }
  throw Error(ErrorKind::kUsage,
              StrCat("unknown model kind '", name, "', expected one of ", names));
}

std::optional<int64_t> Extent(const WeightHeaders& headers, const std::string& name, size_t axes,
                              size_t axis) {
  const auto it = headers.find(name);
  if (it == headers.end() || it->second.shape.size() != axes) return std::nullopt;
  return it->second.shape[axis];
}

std::optional<Kind> KindOfConfig(const ConfigFile& file) {
  if (file.img_size == 224) return Kind::k2_7b;
  if (file.img_size == 490) return WithoutTiles(35 * 35 + 1, file);
  if (file.img_size) return std::nullopt;
  if (file.rope.scaling == RopeConfig::Scaling::kNone) return Kind::k4khd7b;
  if (file.rope.scaling == RopeConfig::Scaling::kDynamic) return Kind::k25_7b;
  return std::nullopt;
}

Kind KindOfTensors(const WeightHeaders& headers, const ConfigFile& file) {
  const std::string wqkv = "model.layers.0.attention.wqkv.";
  const int64_t table = Extent(headers, kPositionTable, 2, 0).value_or(0);
  if (headers.count("plora_glb_GN") != 0) {
    if (headers.count(wqkv + "lora_web_A.weight") != 0 || table == 40 * 40 + 1) return Kind::k25_7b;
    const bool narrow = Extent(headers, wqkv + "Plora_A.weight", 2, 0) == 8;
    if (narrow || table == 24 * 24 + 1) return Kind::k4khd7b;
    throw Error(
        ErrorKind::kConfig,
        StrCat("the tensors have separators (plora_glb_GN), but neither lora_web_A nor a wqkv "
               "rank of 8, and a position table of ",
               table, " rows, expected 577 (2-4khd-7b) or 1601 (2.5-7b); ", kKindAdvice));
  }
  if (table != 0 || file.img_size) return WithoutTiles(table, file);
  throw Error(ErrorKind::kConfig,
              StrCat("the model's kind cannot be told: there is neither a position table (",
                     kPositionTable, ") nor img_size in config.json; ", kKindAdvice));
}

}  // namespace xcomposer
