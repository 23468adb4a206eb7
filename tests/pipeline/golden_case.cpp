#include "golden_case.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

template <typename T>
void Widen(const std::byte* data, std::vector<float>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data + i * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
}

GoldenTensors ReadTensors(const fs::path& file) {
  const auto mapped = MappedFile::Open(file);
  GoldenTensors tensors;
  for (const TensorEntry& entry : ParseSafetensors(mapped->bytes(), file.string()).tensors) {
    GoldenTensor& tensor = tensors[entry.name];
    tensor.shape = entry.shape;
    tensor.values.resize(static_cast<size_t>(entry.NumElements()));
    const std::byte* data = mapped->bytes().data() + entry.offset;
    if (entry.dtype == DType::kF32) Widen<float>(data, tensor.values);
    if (entry.dtype == DType::kI32) Widen<int32_t>(data, tensor.values);
    if (entry.dtype == DType::kU8) Widen<uint8_t>(data, tensor.values);
  }
  return tensors;
}

/// The tensors whose names start with `prefix`, without it.
GoldenTensors Below(const GoldenTensors& tensors, const std::string& prefix) {
  GoldenTensors below;
  for (const auto& [name, tensor] : tensors) {
    if (name.rfind(prefix, 0) == 0) below[name.substr(prefix.size())] = tensor;
  }
  return below;
}

Json ReadCases(const fs::path& folder) {
  std::ifstream in(folder / "cases.json");
  return Json::parse(in);
}

GoldenTensors ImageTaps(const fs::path& folder, const Json& cases, const Json& json, size_t image) {
  const std::string prefix = "image" + std::to_string(image);
  std::string file = json["taps"];
  std::string inside = prefix;
  if (json.contains(prefix + ".same_as")) {
    const std::string same = json[prefix + ".same_as"];
    file = same.substr(0, same.find('#'));
    inside = same.substr(same.find('#') + 1);
  } else if (json.contains("image_taps_from")) {
    for (const Json& other : cases) {
      if (other["name"] == json["image_taps_from"]) file = other["taps"];
    }
  }
  return Below(ReadTensors(folder / file), inside + ".");
}

void ReadGeneration(const Json& json, GoldenCase& out) {
  const Json& generate = json["generate"];
  out.repetition_penalty = generate["repetition_penalty"];
  out.eos_ids = generate["eos_token_id"].get<std::vector<int32_t>>();
  out.num_beams = generate["num_beams"];
  out.use_cache = generate["use_cache"];
  out.infer_mode = generate.value("infer_mode", "base");
  out.output_ids = json["output_ids"].get<std::vector<int32_t>>();
  const bool text_path = out.images.empty() && !out.use_cache;
  out.penalty_ids = text_path ? out.input_ids : std::vector<int32_t>{1};
}

}  // namespace

std::vector<fs::path> GoldenFolders(const fs::path& goldens) {
  std::vector<fs::path> folders;
  if (!fs::exists(goldens)) return folders;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    if (fs::exists(entry.path() / "cases.json")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::vector<std::string> GoldenCaseNames(const fs::path& folder) {
  std::vector<std::string> names;
  for (const Json& json : ReadCases(folder)) names.push_back(json["name"]);
  return names;
}

GoldenCase LoadGoldenCase(const fs::path& folder, const std::string& name) {
  const Json cases = ReadCases(folder);
  const auto found = std::find_if(cases.begin(), cases.end(),
                                  [&](const Json& json) { return json["name"] == name; });
  const Json& json = *found;
  GoldenCase out;
  out.folder = folder;
  out.name = name;
  out.forward_only = json.value("call", "chat") == "forward";
  if (json["images"].is_array()) out.images = json["images"].get<std::vector<std::string>>();
  if (json.contains("chat") && json["chat"].contains("hd_num")) out.hd_num = json["chat"]["hd_num"];
  out.input_ids = json["input_ids"].get<std::vector<int32_t>>();
  out.fresh_rope = json.value("rope_state", "fresh") == "fresh";
  if (!out.forward_only) ReadGeneration(json, out);
  out.taps = ReadTensors(folder / json["taps"]);
  for (size_t i = 0; i < out.images.size(); ++i) {
    out.is_video.push_back(json.contains("image" + std::to_string(i) + ".video"));
    out.image_taps.push_back(ImageTaps(folder, cases, json, i));
  }
  return out;
}

}  // namespace xcomposer
