#include "quantised_models.h"

namespace xcomposer {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;
using Method = Quantization::Method;

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
  try {
    Read(headers, kOwnInt4);
  } catch (const Error& error) {
    EXPECT_EQ(error.where().at("file"), "quantize_config.json");
  }
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

}  // namespace
}  // namespace xcomposer
