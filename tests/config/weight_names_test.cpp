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
  EXPECT_EQ(CheckWeights(config, headers), beside.unused);
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

/// The headers of a checkpoint that holds `weight` in 12 bits.
void PutInTwelveBits(WeightHeaders& headers, const std::string& weight) {
  const WeightHeader dense = headers.at(weight);
  const int64_t outputs = dense.shape.at(0);
  headers.erase(weight);
  const Bf12Names names = Bf12NamesOf(weight);
  headers[names.words] = {"I32", {outputs / 4, dense.shape.at(1) / 128, 192}};
  headers[names.scales] = {"F32", {outputs}};
  headers[names.outliers] = {"I32", {outputs / 4 + 1 + 14}};
}

TEST(CheckWeights, LinearsMayBeIn12Bits) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  WeightHeaders headers = HeadersOf(config);
  EXPECT_TRUE(WeightsIn12Bits(config, headers).empty());
  const std::string wo = "model.layers.7.attention.wo";
  for (const WeightSpec& spec : WeightTable(config)) {
    if (spec.linear && spec.name != wo + ".weight") PutInTwelveBits(headers, spec.name);
  }
  EXPECT_EQ(WeightsIn12Bits(config, headers).size(), 5u * 32 + 1 - 1);
  EXPECT_FALSE(WeightsIn12Bits(config, headers).contains(wo + ".weight"));
  EXPECT_TRUE(CompareWeights(config, headers).none());
  EXPECT_THAT(CompareWeights(config, headers).unused, testing::IsEmpty());
  const ModelConfig read = ParseConfig(ShippedConfig(Kind::kVl7b).dump(), headers);
  EXPECT_EQ(read.quantization, Quantization{});
  EXPECT_EQ(read.in_12_bits, WeightsIn12Bits(config, headers));
  for (const WeightSpec& spec : WeightTable(read)) {
    EXPECT_EQ(spec.in_12_bits.has_value(), spec.linear) << spec.name;
    EXPECT_EQ(spec.in_12_bits.value_or(false), spec.linear && spec.name != wo + ".weight");
  }

  WeightHeaders both = headers;
  PutInTwelveBits(both, wo + ".weight");
  both[wo + ".weight"] = headers.at(wo + ".weight");
  EXPECT_THAT(CompareWeights(config, both).unexpected,
              ElementsAre(wo + ".bf12.outliers", wo + ".bf12.scales", wo + ".bf12.words"));

  const std::string w1 = "model.layers.3.feed_forward.w1.bf12.";
  for (const char* part : {"scales", "outliers"}) {
    WeightHeaders fewer = headers;
    fewer.erase(w1 + part);
    EXPECT_THAT(CompareWeights(config, fewer).missing, ElementsAre(w1 + part));
  }
  WeightHeaders no_words = headers;
  no_words.erase(w1 + "words");
  EXPECT_THAT(CompareWeights(config, no_words).missing,
              ElementsAre("model.layers.3.feed_forward.w1.weight"));
  EXPECT_THAT(CompareWeights(config, no_words).unexpected,
              ElementsAre(w1 + "outliers", w1 + "scales"));

  const auto mismatch = [&](const std::string& part, const WeightHeader& header) {
    WeightHeaders wrong = headers;
    wrong[w1 + part] = header;
    const std::vector<std::string> found = CompareWeights(config, wrong).mismatched;
    EXPECT_EQ(found.size(), 1u) << part;
    return found.empty() ? "" : found[0];
  };
  EXPECT_EQ(mismatch("words", {"I32", {3584, 32, 191}}),
            w1 + "words: found I32 [3584, 32, 191], expected [3584, 32, 192] of I32");
  EXPECT_THAT(mismatch("words", {"F32", {3584, 32, 192}}), HasSubstr("found F32"));
  EXPECT_EQ(mismatch("scales", {"F16", {14336}}),
            w1 + "scales: found F16 [14336], expected [14336] of F32");
  EXPECT_EQ(mismatch("outliers", {"I32", {3584}}),
            w1 + "outliers: found I32 [3584], expected at least [3585] of I32");
  EXPECT_THAT(mismatch("outliers", {"I32", {3585, 1}}), HasSubstr("[3585, 1]"));

  // Nothing else may be, and no linear whose sizes do not fit.
  for (const char* weight : {"model.tok_embeddings.weight", "vision_proj.2.weight",
                             "model.layers.0.attention.wo.Plora_B.weight"}) {
    WeightHeaders others = HeadersOf(config);
    PutInTwelveBits(others, weight);
    EXPECT_THAT(CompareWeights(config, others).missing, ElementsAre(weight));
    EXPECT_EQ(CompareWeights(config, others).unexpected.size(), 3u) << weight;
    EXPECT_TRUE(WeightsIn12Bits(config, others).empty()) << weight;
  }
  nlohmann::json odd = ShippedConfig(Kind::kVl7b);
  odd["vocab_size"] = 92543;
  const ModelConfig odd_config = ParseConfig(odd.dump());
  WeightHeaders odd_headers = HeadersOf(odd_config);
  PutInTwelveBits(odd_headers, "output.weight");
  EXPECT_THAT(CompareWeights(odd_config, odd_headers).missing, ElementsAre("output.weight"));
}

TEST(Bf12Names, NameTheirWeight) {
  const Bf12Names names = Bf12NamesOf("output.weight");
  EXPECT_EQ(names.words, "output.bf12.words");
  for (const std::string& part : {names.words, names.scales, names.outliers}) {
    EXPECT_EQ(WeightOfBf12(part), "output.weight");
  }
  for (const char* other :
       {"output.weight", "output.bf12.", "output.bf12.zeros", "bf12.words", ""}) {
    EXPECT_EQ(WeightOfBf12(other), std::nullopt) << other;
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
