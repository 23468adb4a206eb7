#pragma once

#include <functional>
#include <optional>
#include <string>

#include "config/quantization.h"
#include "config/weight_names.h"
#include "config_texts.h"
#include "gmock/gmock.h"
#include "xcomposer/error.h"

/// Models that are quantised, and the headers of their checkpoints.
namespace xcomposer {

inline constexpr const char* kGptqFile = R"({"bits": 4, "group_size": 128, "damp_percent": 0.01,
  "desc_act": false, "static_groups": false, "sym": true, "true_sequential": true,
  "model_name_or_path": null, "model_file_base_name": null})";

inline nlohmann::json Awq() {
  return {{"bits", 4},
          {"group_size", 128},
          {"quant_method", "awq"},
          {"version", "gemm"},
          {"zero_point", true}};
}

inline void ExpectRefused(const std::function<void()>& call, ErrorKind kind,
                          const std::string& part) {
  try {
    call();
    ADD_FAILURE() << "no error where one about '" << part << "' was due";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

inline nlohmann::json FourBitConfig(Kind kind) {
  nlohmann::json json = ShippedConfig(kind);
  json["torch_dtype"] = "float16";
  json["model_type"] = "internlm";
  return json;
}

inline ModelConfig GptqModel(Kind kind) {
  return ParseConfig(FourBitConfig(kind).dump(), std::nullopt, std::nullopt, kGptqFile);
}

inline ModelConfig AwqModel(Kind kind) {
  nlohmann::json json = ShippedConfig(kind);
  json["quantization_config"] = Awq();
  return ParseConfig(json.dump());
}

/// The headers of a complete checkpoint, types included.
inline WeightHeaders QuantisedHeaders(const ModelConfig& config) {
  WeightHeaders headers;
  for (const WeightSpec& spec : WeightTable(config)) {
    const char* type = spec.numbers == NumberKind::kInt32 ? "I32" : "F16";
    headers[spec.name] = {type, spec.shape};
  }
  return headers;
}

inline int64_t Bytes(const WeightHeaders& headers) {
  int64_t total = 0;
  for (const auto& [name, header] : headers) {
    int64_t count = 1;
    for (const int64_t extent : header.shape) count *= extent;
    total += count * (header.dtype == "I32" ? 4 : 2);
  }
  return total;
}

/// What `quantize` writes.
inline constexpr const char* kOwnInt4 =
    R"({"quant_method": "xcomposer", "bits": 4, "group_size": 32,
  "lm_head": true, "dynamic": {"output": {"bits": 8, "group_size": 128}}})";

/// What it wrote when it had GPTQ's layout.
inline constexpr const char* kGptqInt4 = R"({"bits": 4, "group_size": 32, "lm_head": true,
  "dynamic": {"output": {"bits": 8, "group_size": 128}}, "meta": {"quantizer": "xcomposer"}})";

inline constexpr Quantization kGptqWithHead{Quantization::Method::kGptq, 4, 32, 8, 128};

inline ModelConfig ModelOf(const char* declaration) {
  return ParseConfig(ShippedConfig(Kind::kVl7b).dump(), std::nullopt, std::nullopt, declaration);
}

inline ModelConfig Read(const WeightHeaders& headers, const char* declaration) {
  const std::optional<std::string> file =
      declaration != nullptr ? std::optional<std::string>(declaration) : std::nullopt;
  return ParseConfig(ShippedConfig(Kind::kVl7b).dump(), headers, std::nullopt, file);
}

}  // namespace xcomposer
