#include "config/model_config.h"

#include <fstream>

#include "config/published_config.h"
#include "config_texts.h"
#include "gmock/gmock.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string MessageOf(const nlohmann::json& json,
                      const std::optional<WeightHeaders>& headers = {}) {
  try {
    ParseConfig(json.dump(), headers);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig) << error.what();
    return error.what();
  }
  return "";
}

TEST(ModelConfig, TellsTheKindFromConfigAloneAndFromTensors) {
  for (const Kind kind : kAllKinds) {
    const std::string text = ShippedConfig(kind).dump();
    const ModelConfig alone = ParseConfig(text);
    EXPECT_EQ(alone.kind, kind) << ToString(kind);
    EXPECT_TRUE(alone.notes.empty());
    const ModelConfig with_tensors = ParseConfig(text, HeadersOf(alone));
    EXPECT_EQ(with_tensors.kind, kind) << ToString(kind);
    EXPECT_EQ(with_tensors.vision.tile, alone.vision.tile);
    EXPECT_EQ(with_tensors.plora_of(DecoderLinear::kWqkv).rank,
              alone.plora_of(DecoderLinear::kWqkv).rank);
    EXPECT_EQ(ParseKind(ToString(kind)), kind);
  }
  EXPECT_THROW(ParseKind("2.7b"), Error);
}

TEST(ModelConfig, ThePublishedSizesAreKnownWithoutAFile) {
  for (const Kind kind : kAllKinds) {
    const ModelConfig built_in = PublishedConfig(kind);
    const ModelConfig shipped = ParseConfig(ShippedConfig(kind).dump(), std::nullopt, kind);
    EXPECT_EQ(built_in.kind, kind);
    EXPECT_EQ(ParameterCount(built_in), ParameterCount(shipped)) << ToString(kind);
    EXPECT_EQ(built_in.heads, shipped.heads);
    EXPECT_EQ(built_in.kv_heads, shipped.kv_heads);
    EXPECT_EQ(built_in.max_length, shipped.max_length) << ToString(kind);
    EXPECT_EQ(built_in.rope.scaling, shipped.rope.scaling) << ToString(kind);
    EXPECT_EQ(built_in.rope.factor, shipped.rope.factor) << ToString(kind);
    EXPECT_EQ(built_in.rope.theta, shipped.rope.theta);
    EXPECT_EQ(built_in.rope.max_positions, shipped.rope.max_positions) << ToString(kind);
    EXPECT_EQ(built_in.vision.tile, shipped.vision.tile) << ToString(kind);
    EXPECT_EQ(built_in.eos_id, shipped.eos_id);
  }
}

TEST(ModelConfig, OnlyThe4khdScalesItsNarrowPlora) {
  for (const Kind kind : kAllKinds) {
    const ModelConfig config = ParseConfig(ShippedConfig(kind).dump());
    const bool narrow = kind == Kind::k4khd7b;
    EXPECT_EQ(config.plora_of(DecoderLinear::kWqkv).rank, narrow ? 8 : 256);
    EXPECT_EQ(config.plora_of(DecoderLinear::kWqkv).scale, narrow ? 2.0 : 1.0);
    EXPECT_EQ(config.plora_of(DecoderLinear::kW2).rank, 256);
    EXPECT_EQ(config.plora_of(DecoderLinear::kW2).scale, 1.0);
    EXPECT_EQ(config.adapters.web, kind == Kind::k25_7b ? 512 : 0);
  }
}

TEST(ModelConfig, VisionSizesOfEveryKind) {
  const auto patches = [](Kind kind) {
    return ParseConfig(ShippedConfig(kind).dump()).vision.patches();
  };
  EXPECT_EQ(patches(Kind::k2_7b), 256);
  EXPECT_EQ(patches(Kind::kVl7b), 1225);
  EXPECT_EQ(patches(Kind::k4khd7b), 576);
  EXPECT_EQ(patches(Kind::k25_7b), 1600);
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::k25_7b).dump());
  EXPECT_EQ(config.vision.heads, 16);
  EXPECT_EQ(config.vision.merged_width(), 4096);
  EXPECT_EQ(config.head_dim(), 128);
  EXPECT_EQ(config.wqkv_rows(), 6144);
}

TEST(ModelConfig, OtherPatchesAreRefused) {
  const std::string text = ShippedConfig(Kind::kVl7b).dump();
  WeightHeaders headers = HeadersOf(ParseConfig(text));
  headers.at("vit.vision_tower.vision_model.embeddings.patch_embedding.weight").shape = {1024, 3, 7,
                                                                                         7};
  try {
    ParseConfig(text, headers);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_THAT(error.what(), HasSubstr("patches of 7 pixels"));
  }
}

TEST(ModelConfig, NotesThatTheTensorsAreOfAnotherKindThanWasNamed) {
  const std::string text = ShippedConfig(Kind::kVl7b).dump();
  const WeightHeaders headers = HeadersOf(ParseConfig(text));
  EXPECT_THAT(ParseConfig(text, headers, Kind::kVl7b).notes, testing::IsEmpty());
  EXPECT_THAT(ParseConfig(text, headers, Kind::k2_7b).notes,
              testing::Contains(HasSubstr("the tensors are those of 2-vl-7b; 2-7b")));
}

// Only plan and inspect have a flag for it.
TEST(ModelConfig, TellsWhereAKindCanBeNamed) {
  nlohmann::json json = ShippedConfig(Kind::k25_7b);
  const std::string advice = "plan and inspect can be told the kind (--kind)";
  WeightHeaders headers = HeadersOf(ParseConfig(json.dump()));
  std::erase_if(
      headers, [](const auto& tensor) { return tensor.first.find(".lora_") != std::string::npos; });
  headers.at("vit.vision_tower.vision_model.embeddings.position_embedding.weight").shape[0] = 100;
  const auto message = [&](const std::optional<WeightHeaders>& tensors) -> std::string {
    try {
      ParseConfig(json.dump(), tensors);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message(headers), AllOf(HasSubstr("plora_glb_GN"), HasSubstr(advice)));
  EXPECT_THAT(message(WeightHeaders{}), AllOf(HasSubstr("position table"), HasSubstr(advice)));
  json["img_size"] = 300;
  EXPECT_THAT(message(std::nullopt), AllOf(HasSubstr("img_size 300"), HasSubstr(advice)));
}

TEST(ModelConfig, NamesEveryMissingAndWrongFieldAtOnce) {
  nlohmann::json json = ShippedConfig(Kind::kVl7b);
  json.erase("hidden_size");
  json.erase("rope_theta");
  json["vocab_size"] = "many";
  json["bias"] = true;
  EXPECT_THAT(MessageOf(json), AllOf(HasSubstr("hidden_size"), HasSubstr("rope_theta"),
                                     HasSubstr("vocab_size"), HasSubstr("bias")));
  // What is not in the file is not complained of.
  json = ShippedConfig(Kind::kVl7b);
  json["hidden_size"] = "128";
  EXPECT_THAT(MessageOf(json),
              AllOf(HasSubstr("hidden_size is \"128\""), testing::Not(HasSubstr("multiple"))));
  try {
    ParseConfig("{\n\"hidden_size\": 40 96}");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("config.json is not JSON: parse error at line 2"));
  }
  EXPECT_THROW(ParseConfig("{"), Error);
  EXPECT_THROW(ParseConfig("[]"), Error);
  const std::string deep(100000, '[');
  EXPECT_THROW(ParseConfig(R"({"hidden_size": )" + deep + std::string(100000, ']') + "}"), Error);
}

TEST(ModelConfig, RejectsRopeScalingAsThePublishedClassDoes) {
  for (const char* wrong :
       {R"({"type": "dynamic", "factor": 2})", R"({"type": "dynamic"})", R"({"factor": 2.0})",
        R"({"type": "yarn", "factor": 2.0})", R"({"type": "dynamic", "factor": 0.5})",
        R"({"type": "dynamic", "factor": 2.0, "more": 1})", R"("dynamic")", R"([1.0])"}) {
    nlohmann::json json = ShippedConfig(Kind::k25_7b);
    json["rope_scaling"] = nlohmann::json::parse(wrong);
    EXPECT_THAT(MessageOf(json), HasSubstr("rope_scaling")) << wrong;
  }
}

TEST(ModelConfig, RejectsSizesThatDoNotDivideOrFit) {
  const auto with = [](const char* key, const nlohmann::json& value) {
    nlohmann::json json = ShippedConfig(Kind::kVl7b);
    json[key] = value;
    return MessageOf(json);
  };
  EXPECT_THAT(with("num_attention_heads", 31), HasSubstr("multiple"));
  EXPECT_THAT(with("num_key_value_heads", 5), HasSubstr("multiple"));
  EXPECT_THAT(with("hidden_size", int64_t{1} << 40), HasSubstr("hidden_size"));
  EXPECT_THAT(with("hidden_size", 18446744073709551615ull), HasSubstr("hidden_size"));
  EXPECT_THAT(with("num_hidden_layers", 0), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(with("eos_token_id", 92544), HasSubstr("eos_token_id"));
  EXPECT_THAT(with("img_size", 500), HasSubstr("kind"));
  EXPECT_THAT(with("rms_norm_eps", -1.0), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(with("num_key_value_heads", nullptr), testing::IsEmpty());
}

TEST(ModelConfig, SmallLayoutTakesItsSizesFromTensors) {
  ModelConfig small = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  small.vision.tile = 56;
  small.vision.hidden_size = 128;
  small.vision.layers = 3;
  small.vision.intermediate_size = 192;
  small.plora[0].rank = 16;
  nlohmann::json json = ShippedConfig(Kind::kVl7b);
  json["img_size"] = 56;
  const ModelConfig config = ParseConfig(json.dump(), HeadersOf(small));
  EXPECT_EQ(config.kind, Kind::kVl7b);
  EXPECT_EQ(config.vision.tile, 56);
  EXPECT_EQ(config.vision.heads, 2);
  EXPECT_EQ(config.vision.layers, 3);
  EXPECT_EQ(config.plora_of(DecoderLinear::kWqkv).rank, 16);
  EXPECT_TRUE(CompareWeights(config, HeadersOf(small)).none());
}

TEST(ModelConfig, ReportsWhatConfigAndTensorsSayDifferently) {
  const ModelConfig vl = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  EXPECT_THAT(MessageOf(ShippedConfig(Kind::k2_7b), HeadersOf(vl)),
              AllOf(HasSubstr("224"), HasSubstr("1226")));
  nlohmann::json scaled = ShippedConfig(Kind::k4khd7b);
  scaled["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  const auto headers = HeadersOf(ParseConfig(ShippedConfig(Kind::k4khd7b).dump()));
  const ModelConfig config = ParseConfig(scaled.dump(), headers);
  EXPECT_EQ(config.kind, Kind::k4khd7b);
  ASSERT_EQ(config.notes.size(), 1u);
  EXPECT_THAT(config.notes[0], HasSubstr("2.5-7b"));
}

TEST(ModelConfig, FallsBackWhereAFileLacksMaxLength) {
  nlohmann::json json = ShippedConfig(Kind::k4khd7b);
  json.erase("max_length");
  EXPECT_EQ(ParseConfig(json.dump()).max_length, 16384);
}

TEST(ModelConfig, ErrorsNameTheFile) {
  try {
    LoadConfig("no/such/folder");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_THAT(error.where().at("file"), HasSubstr("no/such/folder"));
  }
}

TEST(ModelConfig, ReadsTheGoldenFolders) {
  const std::filesystem::path goldens =
      std::filesystem::path(XCOMPOSER_SHARED_DIR) / "data/goldens";
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "no goldens in " << goldens;
  const std::map<std::string, Kind> folders = {{"2-7b", Kind::k2_7b},
                                               {"2-vl-7b", Kind::kVl7b},
                                               {"2-vl-7b-fullvocab", Kind::kVl7b},
                                               {"2-4khd-7b", Kind::k4khd7b},
                                               {"2.5-7b", Kind::k25_7b},
                                               {"2.5-7b-ntk", Kind::k25_7b},
                                               {"2-vl-7b-4bit", Kind::kVl7b},
                                               {"2.5-7b-4bit", Kind::k25_7b}};
  for (const auto& [folder, kind] : folders) {
    EXPECT_EQ(LoadConfig(goldens / folder / "model").kind, kind) << folder;
  }
}

}  // namespace
}  // namespace xcomposer
