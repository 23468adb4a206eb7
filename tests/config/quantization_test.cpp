#include "config/quantization.h"

#include <functional>

#include "config/weight_names.h"
#include "config_texts.h"
#include "gmock/gmock.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Method = Quantization::Method;

constexpr const char* kGptqFile = R"({"bits": 4, "group_size": 128, "damp_percent": 0.01,
  "desc_act": false, "static_groups": false, "sym": true, "true_sequential": true,
  "model_name_or_path": null, "model_file_base_name": null})";

nlohmann::json Awq() {
  return {{"bits", 4},
          {"group_size", 128},
          {"quant_method", "awq"},
          {"version", "gemm"},
          {"zero_point", true}};
}

void ExpectRefused(const std::function<void()>& call, ErrorKind kind, const std::string& part) {
  try {
    call();
    ADD_FAILURE() << "no error where one about '" << part << "' was due";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

nlohmann::json FourBitConfig(Kind kind) {
  nlohmann::json json = ShippedConfig(kind);
  json["torch_dtype"] = "float16";
  json["model_type"] = "internlm";
  return json;
}

ModelConfig GptqModel(Kind kind) {
  return ParseConfig(FourBitConfig(kind).dump(), std::nullopt, std::nullopt, kGptqFile);
}

ModelConfig AwqModel(Kind kind) {
  nlohmann::json json = ShippedConfig(kind);
  json["quantization_config"] = Awq();
  return ParseConfig(json.dump());
}

/// The headers of a complete checkpoint, types included.
WeightHeaders QuantisedHeaders(const ModelConfig& config) {
  WeightHeaders headers;
  for (const WeightSpec& spec : WeightTable(config)) {
    const char* type = spec.numbers == NumberKind::kInt32 ? "I32" : "F16";
    headers[spec.name] = {type, spec.shape};
  }
  return headers;
}

int64_t Bytes(const WeightHeaders& headers) {
  int64_t total = 0;
  for (const auto& [name, header] : headers) {
    int64_t count = 1;
    for (const int64_t extent : header.shape) count *= extent;
    total += count * (header.dtype == "I32" ? 4 : 2);
  }
  return total;
}

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

/// What `quantize` writes.
constexpr const char* kOwnInt4 = R"({"quant_method": "xcomposer", "bits": 4, "group_size": 32,
  "lm_head": true, "dynamic": {"output": {"bits": 8, "group_size": 128}}})";

/// What it wrote when it had GPTQ's layout.
constexpr const char* kGptqInt4 = R"({"bits": 4, "group_size": 32, "lm_head": true,
  "dynamic": {"output": {"bits": 8, "group_size": 128}}, "meta": {"quantizer": "xcomposer"}})";

constexpr Quantization kGptqWithHead{Method::kGptq, 4, 32, 8, 128};

ModelConfig ModelOf(const char* declaration) {
  return ParseConfig(ShippedConfig(Kind::kVl7b).dump(), std::nullopt, std::nullopt, declaration);
}

ModelConfig Read(const WeightHeaders& headers, const char* declaration) {
  const std::optional<std::string> file =
      declaration != nullptr ? std::optional<std::string>(declaration) : std::nullopt;
  return ParseConfig(ShippedConfig(Kind::kVl7b).dump(), headers, std::nullopt, file);
}

/// The shape of a tensor of the table, nothing where it is not there.
std::vector<int64_t> ShapeOf(const WeightHeaders& headers, const std::string& name) {
  const auto it = headers.find(name);
  return it != headers.end() ? it->second.shape : std::vector<int64_t>{};
}

TEST(OwnQuantization, LiesInPanelsOfOutputs) {
  const ModelConfig config = ModelOf(kOwnInt4);
  EXPECT_EQ(config.quantization, kInt4);
  EXPECT_EQ(ToString(kInt4), "xcomposer 4 bit, groups of 32, output 8 bit, groups of 128");
  EXPECT_EQ(ToString(kInt8), "xcomposer 8 bit, groups of 128, output 8 bit, groups of 128");
  const WeightHeaders headers = QuantisedHeaders(config);
  using Shape = std::vector<int64_t>;
  const std::string w2 = "model.layers.31.feed_forward.w2.";  // 4096 outputs, 14336 inputs
  EXPECT_EQ(ShapeOf(headers, w2 + "codes"), (Shape{256, 1792, 16}));
  EXPECT_EQ(ShapeOf(headers, w2 + "zeros"), (Shape{256, 448, 2}));
  EXPECT_EQ(ShapeOf(headers, w2 + "scales"), (Shape{256, 448, 16}));
  EXPECT_EQ(ShapeOf(headers, "output.codes"), (Shape{5784, 1024, 16}));
  EXPECT_EQ(ShapeOf(headers, "output.zeros"), (Shape{5784, 32, 4}));
  EXPECT_EQ(ShapeOf(headers, "output.scales"), (Shape{5784, 32, 16}));
  EXPECT_EQ(headers.at(w2 + "zeros").dtype, "I32");
  EXPECT_EQ(headers.at(w2 + "scales").dtype, "F16");
  EXPECT_EQ(headers.count("output.weight"), 0u);
  for (const auto& [name, header] : headers) {
    EXPECT_THAT(name, Not(AnyOf(HasSubstr(".linear."), HasSubstr("g_idx"), HasSubstr("qweight"))));
  }
  // Each code, zero and scale once, as in GPTQ's layout without its indices.
  int64_t indices = 0;
  WeightHeaders gptq = QuantisedHeaders(ModelOf(kGptqInt4));
  for (const auto& [name, header] : gptq) {
    if (name.find("g_idx") != std::string::npos) indices += 4 * header.shape[0];
    if (name.find("linear.bias") != std::string::npos) indices += 2 * header.shape[0];
  }
  EXPECT_EQ(Bytes(headers), Bytes(gptq) - indices);
  EXPECT_EQ(ParameterCount(config), ParameterCount(ModelOf(kGptqFile)));
}

TEST(OwnQuantization, IsToldFromTheTensors) {
  for (const Quantization& own :
       {kInt8, kInt4, Quantization{Method::kOwn, 4, 128, 4, 32}, Quantization{Method::kOwn, 8, -1},
        Quantization{Method::kOwn, 4, -1, 8, 256}}) {
    ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
    config.quantization = own;
    const WeightHeaders headers = QuantisedHeaders(config);
    const ModelConfig read = Read(headers, nullptr);
    EXPECT_EQ(ToString(read.quantization), ToString(own));
    EXPECT_EQ(read.quantization, own);
    EXPECT_FALSE(read.before_february_2024);
    EXPECT_NO_THROW(CheckWeights(read, headers));
    // Whatever the file calls it.
    EXPECT_EQ(Read(headers, R"({"quant_method": "gptq"})").quantization, own);
  }
}

TEST(OwnQuantization, IsDeclaredByName) {
  EXPECT_EQ(ModelOf(R"({"quant_method": "xcomposer", "bits": 8})").quantization,
            (Quantization{Method::kOwn, 8, 128}));
  EXPECT_EQ(ModelOf(R"({"quant_method": "XComposer"})").quantization,
            (Quantization{Method::kOwn, 4, 32}));
  EXPECT_EQ(ModelOf(R"({"quant_method": "xcomposer", "bits": 4, "group_size": -1,
                        "lm_head": true})")
                .quantization,
            (Quantization{Method::kOwn, 4, -1, 4, -1}));
}

/// A row of 160 inputs in two groups of 128 says so only in the file: 80 would divide it.
TEST(OwnQuantization, GroupsThatDoNotDivideARowAreDeclared) {
  const std::string wqkv = "model.layers.0.attention.wqkv.";
  const auto settle = [&](int64_t words, int64_t groups, const char* declaration) {
    const WeightHeaders headers = {{wqkv + "codes", {"I32", {6, words, 16}}},
                                   {wqkv + "scales", {"F16", {6, groups, 16}}}};
    std::optional<DeclaredQuantization> declared;
    if (declaration != nullptr) declared = ParseQuantization(declaration, "quantize_config.json");
    std::vector<std::string> notes;
    return SettleQuantization(&headers, declared, 160, notes);
  };
  EXPECT_EQ(settle(20, 2, R"({"group_size": 96})"), (Quantization{Method::kOwn, 4, 96}));
  ExpectRefused([&] { settle(20, 2, nullptr); }, ErrorKind::kCheckpoint,
                "have 80 inputs, expected a multiple of 32, or -1");
  // The sizes that this program gives need no file, short rows included.
  EXPECT_EQ(settle(40, 2, nullptr), (Quantization{Method::kOwn, 8, 128}));
  EXPECT_EQ(settle(20, 5, nullptr), (Quantization{Method::kOwn, 4, 32}));
  EXPECT_EQ(settle(40, 1, nullptr), (Quantization{Method::kOwn, 8, -1}));
  EXPECT_EQ(settle(40, 1, R"({"group_size": 256})"), (Quantization{Method::kOwn, 8, 256}));
}

TEST(OwnQuantization, GroupsHoldWholeBlocks) {
  const auto takes = [](int64_t bits, int64_t group, int64_t in) {
    return Quantization{Method::kOwn, bits, group}.TakesGroupsOf(in);
  };
  for (const int64_t group : {-1, 128, 256, 4096, 4104}) {
    EXPECT_TRUE(takes(8, group, 4096)) << group;
    EXPECT_TRUE(takes(4, group, 4096)) << group;
  }
  for (const int64_t group : {0, -2, 8, 16, 40, 4088, 4100}) {
    EXPECT_FALSE(takes(8, group, 4096)) << group;
    EXPECT_FALSE(takes(4, group, 4096)) << group;
  }
  EXPECT_TRUE(takes(4, 96, 4096));
  EXPECT_FALSE(takes(8, 96, 4096));
  EXPECT_TRUE(takes(8, 96, 96));
  EXPECT_FALSE(takes(8, 96, 104));
  EXPECT_TRUE((Quantization{Method::kGptq, 8, 40}).TakesGroupsOf(4096));

  const auto refused = [](const char* declaration, const std::string& part) {
    ExpectRefused([&] { ModelOf(declaration); }, ErrorKind::kCheckpoint, part);
  };
  refused(R"({"quant_method": "xcomposer", "bits": 4, "group_size": 40})",
          "the groups of the quantised linears have 40 inputs, expected a multiple of 32");
  refused(R"({"quant_method": "xcomposer", "bits": 8, "group_size": 96})",
          "the groups of the quantised linears have 96 inputs, expected a multiple of 128");
  refused(R"({"quant_method": "xcomposer", "bits": 4, "group_size": 32, "lm_head": true,
              "dynamic": {"output": {"bits": 8}}})",
          "the groups of the quantised output matrix have 32 inputs, expected a multiple of 128");
  ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  config.quantization = {Method::kOwn, 4, 8};
  const WeightHeaders headers = QuantisedHeaders(config);
  ExpectRefused([&] { Read(headers, nullptr); }, ErrorKind::kCheckpoint,
                "have 8 inputs, expected a multiple of 32");
}

TEST(OwnQuantization, RefusesBitsThatAreNotThere) {
  WeightHeaders headers = QuantisedHeaders(ModelOf(kOwnInt4));
  auto& words = headers["model.layers.0.attention.wqkv.codes"].shape;
  words[1] = 4096 * 3 / 32;
  ExpectRefused([&] { Read(headers, nullptr); }, ErrorKind::kCheckpoint, "(xcomposer) to 3 bits");
  words[1] = 4096 * 8 / 32;
  ExpectRefused([&] { Read(headers, kOwnInt4); }, ErrorKind::kConfig,
                "says 4 bits, the shape of model.layers.0.attention.wqkv.codes says 8");
  for (const int64_t nonsense : {INT64_MAX, int64_t{0}, int64_t{-1}, int64_t{7}}) {
    words[1] = nonsense;
    ExpectRefused([&] { CheckWeights(Read(headers, kOwnInt4), headers); }, ErrorKind::kCheckpoint,
                  "model.layers.0.attention.wqkv.codes: found I32");
  }
  words = {1536, 4096};  // of two axes
  ExpectRefused([&] { CheckWeights(Read(headers, kOwnInt4), headers); }, ErrorKind::kCheckpoint,
                "model.layers.0.attention.wqkv.codes: found I32 [1536, 4096], expected "
                "[384, 512, 16]");
}

// One layout for layers and output matrix, whatever is beside them.
TEST(OwnQuantization, IsNotMixedWithGptq) {
  const WeightHeaders own = QuantisedHeaders(ModelOf(kOwnInt4));
  const WeightHeaders gptq = QuantisedHeaders(ModelOf(kGptqInt4));
  const auto moved = [](WeightHeaders to, const WeightHeaders& from, const std::string& stem) {
    for (auto it = to.begin(); it != to.end();) {
      it = it->first.compare(0, stem.size(), stem) == 0 ? to.erase(it) : std::next(it);
    }
    for (const auto& [name, header] : from) {
      if (name.compare(0, stem.size(), stem) == 0) to[name] = header;
    }
    return to;
  };
  const auto refused = [](const WeightHeaders& headers, const char* declaration,
                          const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      ExpectRefused([&] { CheckWeights(Read(headers, declaration), headers); },
                    ErrorKind::kCheckpoint, part);
    }
  };
  refused(moved(own, gptq, "output."), kOwnInt4,
          {"1 missing:\n  output.weight", "output.qweight\n"});
  refused(moved(gptq, own, "output."), kGptqInt4,
          {"1 missing:\n  output.weight", "unexpected:\n  output.codes\n"});
  refused(moved(own, gptq, "model.layers.7.attention.wo."), kOwnInt4,
          {"missing:\n  model.layers.7.attention.wo.codes\n",
           "unexpected:\n  model.layers.7.attention.wo.linear.bias\n"});
  // Codes of the output matrix alone do not make a checkpoint of this layout.
  WeightHeaders stored = QuantisedHeaders(ParseConfig(ShippedConfig(Kind::kVl7b).dump()));
  refused(moved(stored, own, "output."), nullptr,
          {"1 missing:\n  output.weight", "unexpected:\n  output.codes\n"});
}

// Folders of earlier versions are GPTQ as any other.
TEST(QuantisedHead, HasBitsAndGroupsOfItsOwn) {
  const ModelConfig config = ModelOf(kGptqInt4);
  EXPECT_EQ(config.quantization, kGptqWithHead);
  EXPECT_EQ(kGptqWithHead.Head(), (Quantization{Method::kGptq, 8, 128}));
  EXPECT_EQ(kInt4.Head(), (Quantization{Method::kOwn, 8, 128}));
  EXPECT_EQ(ToString(kGptqWithHead), "GPTQ 4 bit, groups of 32, output 8 bit, groups of 128");
  const WeightHeaders headers = QuantisedHeaders(config);
  EXPECT_EQ(headers.count("output.weight"), 0u);
  EXPECT_EQ(headers.at("output.qweight").shape, (std::vector<int64_t>{1024, 92544}));
  EXPECT_EQ(headers.at("output.qzeros").shape, (std::vector<int64_t>{32, 23136}));
  EXPECT_EQ(headers.at("output.scales").shape, (std::vector<int64_t>{32, 92544}));
  EXPECT_EQ(headers.at("output.g_idx").shape, (std::vector<int64_t>{4096}));
  const ModelConfig read = Read(headers, kGptqInt4);
  EXPECT_EQ(read.quantization, kGptqWithHead);
  EXPECT_THAT(read.notes, IsEmpty());
  EXPECT_NO_THROW(CheckWeights(read, headers));
  EXPECT_EQ(ParameterCount(read), ParameterCount(ModelOf(kGptqFile)));
}

TEST(QuantisedHead, IsToldFromTheTensors) {
  WeightHeaders own = QuantisedHeaders(ModelOf(kOwnInt4));
  EXPECT_EQ(Read(own, nullptr).quantization, kInt4);
  own["output.codes"].shape[1] = 4096 * 4 / 32;
  EXPECT_EQ(Read(own, nullptr).quantization.head_bits, 4);
  WeightHeaders headers = QuantisedHeaders(ModelOf(kGptqInt4));
  EXPECT_EQ(Read(headers, nullptr).quantization, kGptqWithHead);
  headers["output.qweight"].shape[0] = 4096 * 4 / 32;
  EXPECT_EQ(Read(headers, nullptr).quantization.head_bits, 4);
}

TEST(QuantisedHead, HasTheLayersNumbersWhereItHasNone) {
  const ModelConfig config = ModelOf(R"({"bits": 4, "group_size": 64, "lm_head": true,
                                         "dynamic": {"model.*": {"bits": 8}}})");
  EXPECT_EQ(config.quantization, (Quantization{Method::kGptq, 4, 64, 4, 64}));
  const ModelConfig whole = ModelOf(R"({"bits": 8, "group_size": 64, "lm_head": true,
                                        "dynamic": {"+:output": {"group_size": -1}}})");
  EXPECT_EQ(whole.quantization, (Quantization{Method::kGptq, 8, 64, 8, -1}));
  EXPECT_EQ(ToString(whole.quantization),
            "GPTQ 8 bit, groups of 64, output 8 bit, one group per "
            "row");
}

// Official checkpoints and what earlier versions of this program wrote.
TEST(QuantisedHead, StaysAsItIsStored) {
  for (const char* declaration :
       {kGptqFile, R"({"bits": 4, "group_size": 128, "lm_head": false,
                       "dynamic": {"output": {"bits": 8}}})",
        R"({"bits": 4, "group_size": 128, "dynamic": null, "lm_head": null})"}) {
    const ModelConfig config = ModelOf(declaration);
    EXPECT_EQ(config.quantization, (Quantization{Method::kGptq, 4, 128})) << declaration;
    EXPECT_FALSE(config.quantization.Head());
    const WeightHeaders headers = QuantisedHeaders(config);
    EXPECT_EQ(headers.count("output.weight"), 1u);
    EXPECT_EQ(Read(headers, declaration).quantization, config.quantization);
  }
  // The tensor decides here too.
  const WeightHeaders stored = QuantisedHeaders(ModelOf(kGptqFile));
  const ModelConfig read = Read(stored, R"({"bits": 4, "group_size": 128, "lm_head": true})");
  EXPECT_FALSE(read.quantization.Head());
  EXPECT_THAT(read.notes, testing::Contains(HasSubstr("the tensor decides")));
}

TEST(QuantisedHead, RefusesContradictions) {
  const WeightHeaders whole = QuantisedHeaders(ModelOf(kGptqInt4));
  const auto expect = [&](ErrorKind kind, const std::string& part,
                          const std::function<void(WeightHeaders&)>& change,
                          const char* declaration = kGptqInt4) {
    WeightHeaders headers = whole;
    change(headers);
    ExpectRefused([&] { CheckWeights(Read(headers, declaration), headers); }, kind, part);
  };
  expect(ErrorKind::kCheckpoint, "1 missing:\n  output.scales",
         [](WeightHeaders& headers) { headers.erase("output.scales"); });
  expect(ErrorKind::kCheckpoint, "1 missing:\n  output.qzeros",
         [](WeightHeaders& headers) { headers.erase("output.qzeros"); });
  expect(ErrorKind::kCheckpoint, "1 unexpected:\n  output.weight", [](WeightHeaders& headers) {
    headers["output.weight"] = {"F16", {92544, 4096}};
  });
  expect(ErrorKind::kCheckpoint, "output.qweight: found I32 [1024, 92540], expected [1024, 92544]",
         [](WeightHeaders& headers) { headers["output.qweight"].shape[1] = 92540; });
  expect(ErrorKind::kCheckpoint, "output.scales: found F16 [31, 92544], expected [32, 92544]",
         [](WeightHeaders& headers) { headers["output.scales"].shape[0] = 31; });
  expect(
      ErrorKind::kCheckpoint, "the output matrix is quantised to 3 bits",
      [](WeightHeaders& headers) { headers["output.qweight"].shape[0] = 4096 * 3 / 32; }, nullptr);
  expect(
      ErrorKind::kCheckpoint, "the groups of the quantised output matrix have 4 inputs",
      [](WeightHeaders& headers) { headers["output.scales"].shape[0] = 1024; }, nullptr);
  for (const int64_t nonsense : {INT64_MAX, int64_t{0}, int64_t{-1}, int64_t{7}}) {
    expect(ErrorKind::kCheckpoint, "output.qweight: found I32",
           [&](WeightHeaders& headers) { headers["output.qweight"].shape[0] = nonsense; });
  }
  expect(
      ErrorKind::kConfig, "says 4 bits for the output matrix, the shape of output.qweight says 8",
      [](WeightHeaders&) {}, R"({"bits": 4, "group_size": 32, "lm_head": true})");
  // Quantised words alone do not make a checkpoint of another layout.
  const ModelConfig plain = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  for (const ModelConfig& config : {plain, AwqModel(Kind::kVl7b)}) {
    WeightHeaders headers = QuantisedHeaders(config);
    headers.erase("output.weight");
    headers["output.qweight"] = whole.at("output.qweight");
    const ModelConfig read = ParseConfig(ShippedConfig(Kind::kVl7b).dump(), headers);
    EXPECT_EQ(read.quantization, config.quantization);
    ExpectRefused([&] { CheckWeights(read, headers); }, ErrorKind::kCheckpoint,
                  "1 missing:\n  output.weight\n1 unexpected:\n  output.qweight");
  }
}

TEST(QuantisedHead, RefusesDeclarationsThatAreNotRead) {
  const auto expect = [](const char* own, const std::string& part) {
    const std::string text =
        std::string(R"({"bits": 4, "group_size": 32, "lm_head": true, "dynamic": {"output": )") +
        own + "}}";
    ExpectRefused([&] { ParseQuantization(text, "quantize_config.json"); }, ErrorKind::kConfig,
                  part);
  };
  expect(R"({"bits": 0})", "dynamic.output.bits is 0, expected an integer from 1 to 16");
  expect(R"({"group_size": 100})", "dynamic.output.group_size is 100, expected a multiple of 8");
  expect(R"({"desc_act": true})", "dynamic.output.desc_act is true");
  expect(R"({"bits": "8", "group_size": 0})", "dynamic.output.group_size is 0");
  ExpectRefused(
      [] { ModelOf(R"({"bits": 4, "lm_head": true, "dynamic": {"output": {"bits": 3}}})"); },
      ErrorKind::kCheckpoint, "the output matrix is quantised to 3 bits");
}

TEST(QuantisedHead, NeedsAVocabularyThatFillsPanels) {
  EXPECT_EQ(kInt8.ForVocabulary(92544), kInt8);
  for (const int64_t odd : {92545, 92548, 92552}) {
    EXPECT_EQ(kInt4.ForVocabulary(odd), (Quantization{Method::kOwn, 4, 32})) << odd;
  }
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
