#include "quantised_models.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Method = Quantization::Method;

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

}  // namespace
}  // namespace xcomposer
