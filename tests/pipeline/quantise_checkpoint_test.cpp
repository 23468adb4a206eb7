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
  const ModelConfig config = PackedModel(Kind::kVl7b, {});
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

TEST(QuantiseCheckpoint, TakesTheBytesThatThePlanCounts) {
  const ModelConfig config = PackedModel(Kind::kVl7b, {});
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

// What earlier versions wrote: the layers' linears only. It loads as it did, and the output is
// computed from the stored matrix.
TEST(QuantiseCheckpoint, AFolderWithAStoredOutputIsReadAsBefore) {
  const ModelConfig config = PackedModel(Kind::kVl7b, {});
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
  EXPECT_EQ(old.Find("output.qweight"), nullptr);
  const std::vector<float> scores = FirstScores(old, read, {});
  EXPECT_EQ(scores, FirstScores(checkpoint, config, layers));
  EXPECT_NE(scores, FirstScores(checkpoint, config, kInt8));
}

TEST(QuantiseCheckpoint, AnOutputThatDoesNotFillWordsStays) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  ASSERT_NE(config.vocab_size % 8, 0);
  Folder original("odd_original");
  WriteRandom(config, original.path());
  const Checkpoint checkpoint = Checkpoint::Open(original.path());
  Folder written("odd_written");
  const QuantisationReport report = QuantiseCheckpoint(checkpoint, config, kInt4, 1, written.path(),
                                                       {}, [](const WriteProgress&) {});
  EXPECT_EQ(report.linears, 5 * config.layers);
  const ModelConfig read = ReadAgain(config, written.path());
  EXPECT_EQ(read.quantization, kInt4.ForVocabulary(config.vocab_size));
  EXPECT_EQ(FirstScores(Checkpoint::Open(written.path()), read, {}),
            FirstScores(checkpoint, config, read.quantization));
}

TEST(QuantiseCheckpoint, NamesTheTensorThatIsNotFinite) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  Folder original("not_finite");
  WriteRandom(config, original.path(), [](const std::string& name, at::Tensor tensor) {
    return name == "model.layers.2.attention.wo.weight" ? tensor.fill_(INFINITY) : tensor;
  });
  try {
    FirstScores(Checkpoint::Open(original.path()), config, kInt4.ForVocabulary(config.vocab_size));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("model.layers.2.attention.wo"));
  }
}

}  // namespace
}  // namespace xcomposer
