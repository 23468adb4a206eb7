#include "pipeline/quantise_checkpoint.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "gmock/gmock.h"
#include "packed_model.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/pipeline.h"
#include "placement/weight_type.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

using testing::HasSubstr;

std::vector<float> FirstScores(const Checkpoint& checkpoint, const ModelConfig& config,
                               const Quantization& quantise) {
  PipelineOptions options;
  options.quantise = quantise;
  Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu"}), options);
  Batch batch;
  batch.ids = {1, 17, 30, 5};
  SequenceSlice slice;
  slice.row_count = 4;
  slice.rope_base = 1e6;
  slice.block_table = {0};
  batch.sequences.push_back(slice);
  return pipeline.Forward(batch).values;
}

/// `config` as its tensors and the file beside them say it is stored.
ModelConfig ReadAgain(ModelConfig config, const fs::path& folder) {
  const fs::path file = folder / "quantize_config.json";
  std::ifstream stream(file);
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  const WeightHeaders headers = HeadersOf(Checkpoint::Open(folder));
  config.quantization = SettleQuantization(&headers, ParseQuantization(text, file.string()),
                                           config.hidden_size, config.notes);
  EXPECT_THAT(config.notes, testing::IsEmpty());
  std::vector<std::string> notes;
  EXPECT_EQ(SettleQuantization(nullptr, ParseQuantization(text, file.string()), config.hidden_size,
                               notes),
            config.quantization)
      << "without the tensors";
  return config;
}

// At load or from a folder that was written before: the same numbers to the last bit. And they are
// close to those of the 16-bit weights, closer with 8 bits than with 4.
TEST(QuantiseCheckpoint, OfflineEqualsAtLoad) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("original");
  WriteRandom(config, original.path());
  std::ofstream(original.path() / "config.json") << "{}";
  const Checkpoint checkpoint = Checkpoint::Open(original.path());
  const std::vector<float> exact = FirstScores(checkpoint, config, {});
  double previous = 0;
  for (const Quantization& wanted : {kInt8, kInt4}) {
    Folder written("written");
    const QuantisationReport report = QuantiseCheckpoint(
        checkpoint, config, wanted, 2, written.path(), {}, [](const WriteProgress&) {});
    EXPECT_EQ(report.linears, 5 * config.layers + 1);
    EXPECT_TRUE(fs::exists(written.path() / "quantize_config.json"));
    EXPECT_TRUE(fs::exists(written.path() / "config.json"));
    const ModelConfig packed = ReadAgain(config, written.path());
    EXPECT_EQ(packed.quantization, wanted);
    const std::vector<float> offline = FirstScores(Checkpoint::Open(written.path()), packed, {});
    EXPECT_EQ(offline, FirstScores(checkpoint, config, wanted));
    double error = 0;
    double squares = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(static_cast<double>(offline[i]) - exact[i], 2);
      squares += std::pow(static_cast<double>(exact[i]), 2);
    }
    const double relative = std::sqrt(error / squares);
    EXPECT_GT(relative, 2 * previous);
    // The error of a product is that of its weights where these err independently; five linears in
    // each of three layers, and the output, add up to less than twice their root.
    EXPECT_LT(relative, 2 * std::sqrt(16.0) * report.relative_error);
    EXPECT_GT(report.relative_error, 0);
    previous = relative;
    try {
      QuantiseCheckpoint(checkpoint, packed, wanted, 1, written.path(), {.overwrite = true},
                         [](const WriteProgress&) {});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr("quantised already"));
    }
  }
}

/// What docs/quantisation.md says about the tensors, in its words.
at::Tensor AsDocumented(const at::Tensor& codes, const at::Tensor& zeros, const at::Tensor& scales,
                        int64_t bits, int64_t group) {
  const auto fields = [bits](const at::Tensor& words) {
    const at::Tensor shifts = at::arange(0, 32, bits, at::kInt);
    return at::bitwise_and(at::bitwise_right_shift(words.unsqueeze(-1), shifts), (1 << bits) - 1);
  };
  const int64_t panels = codes.size(0);
  const at::Tensor code = fields(codes).transpose(2, 3).reshape({panels, -1, 16});  // (P, in, 16)
  const at::Tensor zero = fields(zeros).reshape({panels, -1, 16});  // (P, groups, 16)
  const at::Tensor of = at::arange(code.size(1)).div(group, "floor");
  const at::Tensor steps = code.sub(zero.index_select(1, of)).to(at::kFloat);
  const at::Tensor weight = scales.to(at::kFloat).index_select(1, of).mul(steps);
  return weight.transpose(1, 2).reshape({panels * 16, -1});
}

TEST(QuantiseCheckpoint, WritesWhatTheDocumentSays) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("panels_original");
  WriteRandom(config, original.path());
  const Checkpoint checkpoint = Checkpoint::Open(original.path());
  for (const Quantization& wanted : {kInt8, kInt4, Quantization{Quantization::Method::kOwn, 4, -1},
                                     Quantization{Quantization::Method::kOwn, 4, 96, 4, 64}}) {
    Folder written("panels_written");
    QuantiseCheckpoint(checkpoint, config, wanted, 1, written.path(), {},
                       [](const WriteProgress&) {});
    EXPECT_EQ(ReadAgain(config, written.path()).quantization, wanted);
    const Checkpoint packed = Checkpoint::Open(written.path());
    const auto part = [&](const std::string& name) {
      const TensorEntry* entry = packed.Find(name);
      if (entry == nullptr) throw std::runtime_error("no tensor " + name);
      return at::from_blob(const_cast<std::byte*>(packed.Bytes(*entry).data()), entry->shape,
                           entry->dtype == DType::kI32 ? at::kInt : at::kHalf);
    };
    const auto check = [&](const std::string& linear, const Quantization& stored, int64_t out,
                           int64_t in) {
      const at::Tensor weight =
          AsDocumented(part(linear + ".codes"), part(linear + ".zeros"), part(linear + ".scales"),
                       stored.bits, stored.GroupOf(in));
      ASSERT_EQ(weight.sizes(), at::IntArrayRef({out, in}));
      CheckpointWeights source(checkpoint, {}, {}, WeightStorage::kAsStored, {});
      const at::Tensor exact = source.Take(linear + ".weight", {out, in}).to(at::kFloat);
      const double error = weight.sub(exact).norm().item<double>() / exact.norm().item<double>();
      EXPECT_LT(error, stored.bits == 8 ? 0.01 : 0.2) << linear;
    };
    check("model.layers.2.feed_forward.w2", wanted, config.hidden_size, config.intermediate_size);
    check("model.layers.0.attention.wqkv", wanted, config.wqkv_rows(), config.hidden_size);
    if (wanted.Head()) check("output", wanted.Head(), config.vocab_size, config.hidden_size);
  }
}

TEST(QuantiseCheckpoint, RefusesGroupsThatDoNotHoldBlocks) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});  // rows of 96 and 144
  Folder original("groups_original");
  WriteRandom(config, original.path());
  const Checkpoint checkpoint = Checkpoint::Open(original.path());
  const auto quantise = [&](int64_t bits, int64_t group) {
    Folder written("groups_written");
    QuantiseCheckpoint(checkpoint, config, {Quantization::Method::kOwn, bits, group}, 1,
                       written.path(), {}, [](const WriteProgress&) {});
    return ReadAgain(config, written.path()).quantization.group_size;
  };
  for (const auto& [bits, group] : {std::pair<int64_t, int64_t>{4, 8},
                                    {4, 40},
                                    {4, 136},
                                    {8, 96},
                                    {8, 136},
                                    {8, 148},
                                    {4, 0}}) {
    try {
      quantise(bits, group);
      ADD_FAILURE() << bits << " bits in groups of " << group;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(),
                  HasSubstr("the group size is " + std::to_string(group) +
                            ", expected a multiple of " + std::to_string(bits == 4 ? 32 : 128)));
    }
  }
  for (const auto& [bits, group] :
       {std::pair<int64_t, int64_t>{4, 64}, {4, 144}, {4, -1}, {8, 128}, {8, 144}, {8, 152}}) {
    EXPECT_EQ(quantise(bits, group), group) << bits;
  }
}

TEST(QuantiseCheckpoint, TakesTheBytesThatThePlanCounts) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("bytes");
  WriteRandom(config, original.path());
  for (const auto& [wanted, type] :
       {std::pair{kInt8, WeightType::kInt8}, {kInt4, WeightType::kInt4}}) {
    int64_t planned = 0;
    for (const WeightSpec& spec : WeightTable(config)) planned += WeightBytes(spec, type);
    CheckpointWeights weights(Checkpoint::Open(original.path()), {}, wanted,
                              WeightStorage::kAsStored, {});
    const Pipeline pipeline(weights, config, EvenDeviceMap(config, {"cpu"}), {});
    EXPECT_EQ(weights.bytes(), planned);
  }
}

// The layers' linears only: the output is computed from the stored matrix.
TEST(QuantiseCheckpoint, AFolderMayHaveAStoredOutput) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("old_original");
  WriteRandom(config, original.path());
  const Checkpoint checkpoint = Checkpoint::Open(original.path());
  Quantization layers = kInt8;
  layers.head_bits = layers.head_group_size = 0;
  Folder written("old_written");
  QuantiseCheckpoint(checkpoint, config, layers, 1, written.path(), {},
                     [](const WriteProgress&) {});
  const ModelConfig read = ReadAgain(config, written.path());
  EXPECT_EQ(read.quantization, layers);
  const Checkpoint old = Checkpoint::Open(written.path());
  EXPECT_NE(old.Find("output.weight"), nullptr);
  EXPECT_EQ(old.Find("output.codes"), nullptr);
  const std::vector<float> scores = FirstScores(old, read, {});
  EXPECT_EQ(scores, FirstScores(checkpoint, config, layers));
  EXPECT_NE(scores, FirstScores(checkpoint, config, kInt8));
}

TEST(QuantiseCheckpoint, AnOutputThatDoesNotFillPanelsStays) {
  for (const int64_t vocabulary : {211, 216}) {
    ModelConfig config = PanelModel(Kind::kVl7b, {});
    config.vocab_size = vocabulary;
    Folder original("odd_original");
    WriteRandom(config, original.path());
    const Checkpoint checkpoint = Checkpoint::Open(original.path());
    Folder written("odd_written");
    const QuantisationReport report = QuantiseCheckpoint(
        checkpoint, config, kInt4, 1, written.path(), {}, [](const WriteProgress&) {});
    EXPECT_EQ(report.linears, 5 * config.layers);
    const ModelConfig read = ReadAgain(config, written.path());
    EXPECT_EQ(read.quantization, (Quantization{Quantization::Method::kOwn, 4, 32}));
    EXPECT_EQ(read.quantization, kInt4.ForVocabulary(config.vocab_size));
    EXPECT_EQ(FirstScores(Checkpoint::Open(written.path()), read, {}),
              FirstScores(checkpoint, config, read.quantization));
  }
}

TEST(QuantiseCheckpoint, NamesTheLinearThatDoesNotFillPanels) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  ASSERT_EQ(config.intermediate_size, 136);  // outputs of w1 and w3
  Folder original("no_panels");
  WriteRandom(config, original.path());
  try {
    FirstScores(Checkpoint::Open(original.path()), config, kInt4.ForVocabulary(config.vocab_size));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("model.layers.0.feed_forward.w"));
    EXPECT_THAT(error.what(), HasSubstr("multiples of 16 outputs"));
  }
}

TEST(QuantiseCheckpoint, NamesTheTensorThatIsNotFinite) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("not_finite");
  WriteRandom(config, original.path(), [](const std::string& name, at::Tensor tensor) {
    return name == "model.layers.2.attention.wo.weight" ? tensor.fill_(INFINITY) : tensor;
  });
  try {
    FirstScores(Checkpoint::Open(original.path()), config, kInt4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("model.layers.2.attention.wo"));
  }
}

TEST(QuantiseCheckpoint, NamesTheTensorWhoseNumbersAreTooLargeForScales) {
  const ModelConfig config = PanelModel(Kind::kVl7b, {});
  Folder original("too_large");
  WriteRandom(config, original.path(), [](const std::string& name, at::Tensor tensor) {
    // bfloat16 holds it, a scale of 16 bits does not.
    if (name == "model.layers.1.attention.wo.weight") tensor[3][5].fill_(1e8);
    return tensor;
  });
  for (const Quantization& wanted : {kInt8, kInt4}) {
    try {
      FirstScores(Checkpoint::Open(original.path()), config, wanted);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
      EXPECT_THAT(error.what(),
                  testing::AllOf(HasSubstr("model.layers.1.attention.wo"), HasSubstr("too large")));
    }
  }
}

}  // namespace
}  // namespace xcomposer
