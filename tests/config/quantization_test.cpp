#include "quantised_models.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Method = Quantization::Method;

// The published files have 7.01 GB each; with post_layernorm, which every one of them holds too.
TEST(Quantization, BytesOfThePublishedFiles) {
  constexpr int64_t kPostLayerNorm = 2 * 1024 * 2;
  const auto near = [](int64_t bytes, double gigabytes) {
    EXPECT_NEAR(static_cast<double>(bytes + kPostLayerNorm) / 1e9, gigabytes, 0.0001);
  };
  near(Bytes(QuantisedHeaders(GptqModel(Kind::k2_7b))), 7.0057);
  near(Bytes(QuantisedHeaders(GptqModel(Kind::kVl7b))), 7.0077);
  EXPECT_NEAR(static_cast<double>(Bytes(QuantisedHeaders(AwqModel(Kind::k25_7b)))) / 1e9, 11.86,
              0.01);
}

TEST(Quantization, IsToldFromTheTensors) {
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b}) {
    const ModelConfig config = GptqModel(kind);
    const Quantization expected{Method::kGptq, 4, 128};
    EXPECT_EQ(config.quantization, expected);
    const WeightHeaders headers = QuantisedHeaders(config);
    const ModelConfig read = ParseConfig(FourBitConfig(kind).dump(), headers);
    EXPECT_EQ(read.quantization, expected) << "without quantize_config.json";
    EXPECT_EQ(read.kind, kind);
    EXPECT_TRUE(read.before_february_2024);
    EXPECT_NO_THROW(CheckWeights(read, headers));
    EXPECT_EQ(ParameterCount(read), ParameterCount(ParseConfig(ShippedConfig(kind).dump())));
  }
  const ModelConfig config = AwqModel(Kind::k25_7b);
  EXPECT_EQ(config.quantization, (Quantization{Method::kAwq, 4, 128}));
  const WeightHeaders headers = QuantisedHeaders(config);
  const ModelConfig read = ParseConfig(ShippedConfig(Kind::k25_7b).dump(), headers);
  EXPECT_EQ(read.quantization, config.quantization);
  EXPECT_FALSE(read.before_february_2024);
  EXPECT_NO_THROW(CheckWeights(read, headers));
}

// What this program writes for 2-vl-7b has the layout, and the prompt of its parent.
TEST(Quantization, OnlyTheShippedRepositoriesHoldTheOlderPython) {
  const ModelConfig config =
      ParseConfig(ShippedConfig(Kind::kVl7b).dump(), std::nullopt, std::nullopt, kGptqFile);
  EXPECT_TRUE(config.quantization);
  EXPECT_FALSE(config.before_february_2024);
}

TEST(Quantization, ListsTensorsThatAreWrong) {
  const ModelConfig config = GptqModel(Kind::kVl7b);
  WeightHeaders headers = QuantisedHeaders(config);
  headers.erase("model.layers.3.attention.wo.linear.qzeros");
  headers.erase("model.layers.4.attention.wo.linear.bias");   // may be missing
  headers.erase("model.layers.4.attention.wo.linear.g_idx");  // may be missing
  headers["model.layers.5.attention.wo.linear.scales"].dtype = "F32";
  headers["model.layers.6.feed_forward.w2.linear.qweight"].shape = {1791, 4096};
  headers["model.layers.7.feed_forward.w1.weight"] = {"F16", {14336, 4096}};
  headers["vit.vision_tower.vision_model.post_layernorm.weight"] = {"F16", {1024}};
  const WeightDifferences differences = CompareWeights(config, headers);
  EXPECT_THAT(differences.missing,
              testing::ElementsAre("model.layers.3.attention.wo.linear.qzeros"));
  EXPECT_THAT(differences.unexpected,
              testing::ElementsAre("model.layers.7.feed_forward.w1.weight"));
  ASSERT_EQ(differences.mismatched.size(), 2u);
  EXPECT_THAT(differences.mismatched[0], HasSubstr("found F32 [32, 4096], expected [32, 4096] of "
                                                   "F16"));
  EXPECT_THAT(differences.mismatched[1], HasSubstr("expected [1792, 4096] of I32"));
}

TEST(Quantization, TensorsDecideOverAStaleDeclaration) {
  nlohmann::json json = ShippedConfig(Kind::k25_7b);
  json["quantization_config"] = Awq();
  const ModelConfig plain = ParseConfig(ShippedConfig(Kind::k25_7b).dump());
  const ModelConfig read = ParseConfig(json.dump(), HeadersOf(plain));
  EXPECT_FALSE(read.quantization);
  EXPECT_THAT(read.notes, testing::Contains(HasSubstr("the tensors decide")));
}

TEST(Quantization, RefusesWhatIsNotRead) {
  const auto declared = [](const char* key, const nlohmann::json& value) {
    nlohmann::json json = nlohmann::json::parse(kGptqFile);
    json[key] = value;
    return [json] { ParseQuantization(json.dump(), "quantize_config.json"); };
  };
  ExpectRefused(declared("desc_act", true), ErrorKind::kConfig, "desc_act is true");
  ExpectRefused(declared("group_size", 100), ErrorKind::kConfig, "group_size is 100");
  ExpectRefused(declared("group_size", 0), ErrorKind::kConfig, "group_size is 0");
  ExpectRefused(declared("group_size", -2), ErrorKind::kConfig, "group_size is -2");
  ExpectRefused(declared("group_size", "128"), ErrorKind::kConfig, "group_size is \"128\"");
  ExpectRefused(declared("bits", 0), ErrorKind::kConfig, "bits is 0");
  ExpectRefused(declared("bits", 18446744073709551615u), ErrorKind::kConfig, "bits is 18446");
  ExpectRefused(declared("quant_method", "squeezellm"), ErrorKind::kConfig,
                "quant_method is squeezellm, expected gptq, awq or xcomposer");
  ExpectRefused(declared("checkpoint_format", "gptq_v2"), ErrorKind::kConfig, "gptq_v2");
  nlohmann::json gemv = Awq();
  gemv["version"] = "gemv";
  gemv["zero_point"] = false;
  try {
    ParseQuantization(gemv.dump(), "quantization_config of config.json");
    FAIL();
  } catch (const Error& error) {  // all of it at once
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("gemv"), HasSubstr("zero_point")));
  }
  ExpectRefused([] { ParseQuantization("[4]", "quantize_config.json"); }, ErrorKind::kConfig,
                "quantize_config.json");
  ExpectRefused(
      [] {
        ParseConfig(FourBitConfig(Kind::kVl7b).dump(), std::nullopt, std::nullopt,
                    R"({"bits": 3, "group_size": 128})");
      },
      ErrorKind::kCheckpoint, "to 3 bits");
}

TEST(Quantization, RefusesBitsThatTheShapesTell) {
  WeightHeaders headers = QuantisedHeaders(GptqModel(Kind::kVl7b));
  const std::string config = FourBitConfig(Kind::kVl7b).dump();
  auto& words = headers["model.layers.0.attention.wqkv.linear.qweight"].shape;
  words[0] = 4096 * 3 / 32;
  ExpectRefused([&] { ParseConfig(config, headers); }, ErrorKind::kCheckpoint, "to 3 bits");
  words[0] = 4096 * 8 / 32;
  EXPECT_EQ(ParseConfig(config, headers).quantization.bits, 8);
  ExpectRefused([&] { ParseConfig(config, headers, std::nullopt, kGptqFile); }, ErrorKind::kConfig,
                "says 4 bits");
  for (const int64_t nonsense : {INT64_MAX, int64_t{0}, int64_t{-1}, int64_t{7}}) {
    words[0] = nonsense;  // named with its shape, as any tensor
    ExpectRefused([&] { CheckWeights(ParseConfig(config, headers), headers); },
                  ErrorKind::kCheckpoint,
                  "model.layers.0.attention.wqkv.linear.qweight: found I32");
  }
  WeightHeaders awq = QuantisedHeaders(AwqModel(Kind::k25_7b));
  awq["model.layers.0.attention.wqkv.qweight"].shape = {4096, 6144 * 8 / 32};
  ExpectRefused([&] { ParseConfig(ShippedConfig(Kind::k25_7b).dump(), awq); },
                ErrorKind::kCheckpoint, "(AWQ) to 8 bits");
}

TEST(Quantization, GroupsOfARow) {
  const Quantization whole{Method::kGptq, 4, -1};
  EXPECT_EQ(whole.GroupOf(14336), 14336);
  EXPECT_EQ(whole.GroupsOf(14336), 1);
  const Quantization some{Method::kGptq, 4, 128};
  EXPECT_EQ(some.GroupsOf(14336), 112);
  EXPECT_EQ(some.GroupsOf(136), 2);
  EXPECT_EQ(ToString(whole), "GPTQ 4 bit, one group per row");
  EXPECT_EQ(ToString(Quantization{}), "none");
  EXPECT_THAT(ParseQuantization(R"({"bits": 4})", "f").method, IsEmpty());
}

}  // namespace
}  // namespace xcomposer
