#include "config/weight_names.h"

#include <set>

#include "config_texts.h"
#include "gmock/gmock.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

struct Published {
  Kind kind;
  size_t tensors;
  int64_t parameters;
};

// Parameter counts and tensor counts of the published files; the 1.8b's tensor count follows from
// its layers, its parameters from its file size.
const Published kPublished[] = {{Kind::k2_7b, 940, 8665845760},
                                {Kind::kVl7b, 940, 8666838016},
                                {Kind::k4khd7b, 942, 8597499904},
                                {Kind::k25_7b, 1902, 11095732224},
                                {Kind::kVl1_8b, 804, 2451233792}};

TEST(WeightTable, CountsOfThePublishedFiles) {
  for (const Published& published : kPublished) {
    const ModelConfig config = ParseConfig(ShippedConfig(published.kind).dump());
    const std::vector<WeightSpec> table = WeightTable(config);
    EXPECT_EQ(table.size(), published.tensors) << ToString(published.kind);
    EXPECT_EQ(ParameterCount(config), published.parameters) << ToString(published.kind);
    std::set<std::string> names;
    for (const WeightSpec& spec : table) {
      EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
      EXPECT_EQ(spec.part == Part::kLayer, spec.layer >= 0) << spec.name;
      EXPECT_FALSE(IsIgnoredWeight(spec.name));
    }
  }
}

TEST(CheckWeights, ListsEverythingThatIsWrong) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  WeightHeaders headers = HeadersOf(config);
  EXPECT_NO_THROW(CheckWeights(config, headers));
  headers.erase("output.weight");
  headers.erase("model.layers.31.ffn_norm.weight");
  headers["model.layers.32.ffn_norm.weight"] = {"BF16", {4096}};
  headers["model.norm.weight"].shape = {4095};
  headers["vision_proj.0.bias"].dtype = "I64";
  headers["vit.vision_tower.vision_model.embeddings.position_ids"] = {"I64", {1, 1226}};
  headers["model.layers.3.attention.rotary_emb.inv_freq"] = {"F32", {64}};

  const WeightDifferences differences = CompareWeights(config, headers);
  EXPECT_THAT(differences.missing, ElementsAre("model.layers.31.ffn_norm.weight", "output.weight"));
  EXPECT_THAT(differences.unexpected, ElementsAre("model.layers.32.ffn_norm.weight"));
  EXPECT_EQ(differences.mismatched.size(), 2u);
  try {
    CheckWeights(config, headers);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("output.weight"), HasSubstr("model.layers.31.ffn_norm.weight"),
                      HasSubstr("model.layers.32.ffn_norm.weight"), HasSubstr("[4095]"),
                      HasSubstr("vision_proj.0.bias: found I64")));
  }
}

// A head that somebody trained beside the model harms nothing; what hangs on a module of the model
// would change its answers.
TEST(CheckWeights, PassesOverTensorsBesideTheModel) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  WeightHeaders headers = HeadersOf(config);
  for (const char* name :
       {"v_head.summary.weight", "model.rotary_emb.inv_freq", "outputs.weight", "lm_head.weight"}) {
    headers[name] = {"F32", {64}};
  }
  const WeightDifferences beside = CompareWeights(config, headers);
  EXPECT_TRUE(beside.none());
  EXPECT_THAT(beside.unused, ElementsAre("lm_head.weight", "model.rotary_emb.inv_freq",
                                         "outputs.weight", "v_head.summary.weight"));
  EXPECT_NO_THROW(CheckWeights(config, headers));
  EXPECT_THAT(UnusedNote(beside.unused),
              HasSubstr("(4): lm_head.weight, model.rotary_emb.inv_freq, outputs.weight, "
                        "v_head.summary.weight"));
  const std::vector<std::string> many(12, "x");
  EXPECT_THAT(UnusedNote(many), testing::EndsWith("x, x, and 2 more"));

  for (const char* name :
       {"model.layers.0.attention.wqkv.lora_web_A.weight", "model.layers.99.something",
        "output.lora_A.weight", "model.tok_embeddings.lora_B.weight", "vision_proj.0.scales",
        "vit.vision_tower.vision_model.encoder.layers.25.mlp.fc1.weight"}) {
    WeightHeaders more = headers;
    more[name] = {"BF16", {64}};
    EXPECT_THAT(CompareWeights(config, more).unexpected, ElementsAre(name));
    EXPECT_THROW(CheckWeights(config, more), Error) << name;
  }
}

// internlm-xcomposer2d5-ol-7b: 2.5 without the three extra adapters (model specification 2.3).
TEST(CheckWeights, TakesTheOmniLiveSiblingOf25) {
  const std::string text = ShippedConfig(Kind::k25_7b).dump();
  WeightHeaders headers = HeadersOf(ParseConfig(text));
  std::erase_if(
      headers, [](const auto& tensor) { return tensor.first.find(".lora_") != std::string::npos; });
  headers["video_mem_proj.0.weight"] = {"BF16", {4096, 1536}};
  headers["video_mem_proj.0.bias"] = {"BF16", {4096}};
  headers["video_mem_proj.2.weight"] = {"BF16", {4096, 4096}};
  headers["video_mem_proj.2.bias"] = {"BF16", {4096}};
  const ModelConfig config = ParseConfig(text, headers);
  EXPECT_EQ(config.kind, Kind::k25_7b);
  EXPECT_EQ(config.adapters.sft + config.adapters.dpo + config.adapters.web, 0);
  EXPECT_TRUE(CompareWeights(config, headers).none());
  EXPECT_THAT(CompareWeights(config, headers).unused, testing::IsEmpty());
  EXPECT_NO_THROW(CheckWeights(config, headers));
}

}  // namespace
}  // namespace xcomposer
