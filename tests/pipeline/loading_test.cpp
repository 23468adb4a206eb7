#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "gmock/gmock.h"
#include "packed_model.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/pipeline.h"
#include "pipeline/storage_cast.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::HasSubstr;

const fs::path kVl = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens/2-vl-7b";

std::vector<float> Answer(Pipeline& pipeline) {
  Batch batch;
  batch.ids = {1, 17, 300, 5};
  SequenceSlice slice;
  slice.row_count = 4;
  slice.rope_base = 1e6;
  slice.block_table = {0};
  batch.sequences.push_back(slice);
  return pipeline.Forward(batch).values;
}

std::vector<float> AnswerOf(const fs::path& folder, WeightStorage storage) {
  const Checkpoint checkpoint = Checkpoint::Open(folder);
  const ModelConfig config = LoadConfig(folder, HeadersOf(checkpoint));
  PipelineOptions options;
  options.storage = storage;
  Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu"}), options);
  return Answer(pipeline);
}

TEST(Loading, BothFormatsGiveTheSameModel) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const std::vector<float> bin = AnswerOf(kVl / "model", WeightStorage::kAsStored);
  EXPECT_EQ(AnswerOf(kVl / "model-safetensors", WeightStorage::kAsStored), bin);
}

TEST(Loading, WideningChangesNothingAndHalvesStayClose) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const std::vector<float> stored = AnswerOf(kVl / "model", WeightStorage::kAsStored);
  EXPECT_EQ(AnswerOf(kVl / "model", WeightStorage::kBFloat16), stored);
  const std::vector<float> wide = AnswerOf(kVl / "model", WeightStorage::kFloat32);
  const std::vector<float> half = AnswerOf(kVl / "model", WeightStorage::kFloat16);
  for (size_t i = 0; i < stored.size(); ++i) {
    ASSERT_NEAR(wide[i], stored[i], 1e-3);
    ASSERT_NEAR(half[i], stored[i],
                1e-3);  // bfloat16 values of ordinary size are float16 values too
  }
}

TEST(Loading, ReportsProgressUpToTheEndAndKeepsViews) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const Checkpoint checkpoint = Checkpoint::Open(kVl / "model-safetensors");
  const ModelConfig config = LoadConfig(kVl / "model-safetensors", HeadersOf(checkpoint));
  LoadStep last;
  int64_t steps = 0;
  CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kAsStored,
                            [&](const LoadStep& step) {
                              EXPECT_GT(step.bytes_done, last.bytes_done);
                              last = step;
                              ++steps;
                            });
  const std::string name = "model.layers.0.attention.wqkv.weight";
  const at::Tensor wqkv = weights.Take(name, {config.wqkv_rows(), config.hidden_size});
  EXPECT_EQ(wqkv.const_data_ptr(),
            static_cast<const void*>(checkpoint.Bytes(*checkpoint.Find(name)).data()));

  PipelineOptions options;
  options.progress = [&](const LoadStep& step) { last = step; };
  const Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu", "cpu"}), options);
  EXPECT_EQ(steps, 1);
  EXPECT_EQ(last.bytes_done, last.bytes_total);
  EXPECT_EQ(last.bytes_total, 2 * ParameterCount(config));
}

/// Bytes of the file that this process has mapped, not only asked to map; nothing where the system
/// does not show it.
std::optional<int64_t> MappedBytesOf(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t kilobytes = 0;
  bool is_it = false;
  bool is_shown = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" kB") == std::string::npos) is_it = line.ends_with(file.string());
    if (!is_it || !line.starts_with("Rss:")) continue;
    is_shown = true;
    kilobytes += std::stoll(line.substr(4));
  }
  return is_shown ? std::optional(kilobytes * 1024) : std::nullopt;
}

// Else the first answer would wait for the disk, and later ones for small pages.
TEST(Loading, WeightsAreMappedOnceTheyAreTaken) {
  const Folder folder("loading_mapped");
  const ModelConfig config = BlockModel();
  WriteRandom(config, folder.path());
  const fs::path file = fs::canonical(folder.path() / "model.safetensors");
  const Checkpoint checkpoint = Checkpoint::Open(folder.path());
  CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kAsStored, {});
  const std::optional<int64_t> before = MappedBytesOf(file);
  if (!before) GTEST_SKIP() << "this system does not show what is mapped of " << file;
  for (const WeightSpec& spec : WeightTable(config)) weights.Take(spec.name, spec.shape);
  EXPECT_GE(MappedBytesOf(file).value(), weights.bytes());
  EXPECT_LT(*before, weights.bytes() / 2) << "opening alone reads headers";
}

TEST(Loading, UnreadTensorsGiveTheFilesBytes) {
  for (const char* folder : {"model", "model-safetensors"}) {
    if (!fs::exists(kVl / folder)) GTEST_SKIP() << "no goldens in " << kVl;
    const Checkpoint checkpoint = Checkpoint::Open(kVl / folder);
    LoadStep last;
    // What the CPU's stages would convert to is not asked for.
    CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kFloat32,
                              [&](const LoadStep& step) { last = step; });
    int64_t bytes_read = 0;
    for (const TensorEntry& entry : checkpoint.entries()) {
      const UnreadTensor tensor = weights.TakeUnread(entry.name, entry.shape);
      EXPECT_EQ(tensor.type, at::kBFloat16) << entry.name;
      const size_t middle = static_cast<size_t>(entry.DenseBytes()) / 4 * 2;
      std::vector<std::byte> bytes(static_cast<size_t>(entry.DenseBytes()));
      tensor.read(std::span(bytes).first(middle), 0);
      tensor.read(std::span(bytes).subspan(middle), middle);
      const std::span<const std::byte> expected = checkpoint.Bytes(entry);
      EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), expected.begin(), expected.end()))
          << entry.name;
      bytes_read += entry.DenseBytes();
    }
    EXPECT_EQ(weights.bytes(), bytes_read);
    EXPECT_EQ(last.bytes_done, bytes_read);
    EXPECT_THROW(weights.TakeUnread("nothing", {1}), Error);
  }
}

TEST(Loading, UnreadTensorsOfAnotherShapeAreRefused) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const Checkpoint checkpoint = Checkpoint::Open(kVl / "model-safetensors");
  CheckpointWeights weights(checkpoint, {}, {}, WeightStorage::kAsStored, {});
  const TensorEntry& entry = checkpoint.entries().front();
  std::vector<int64_t> shape = entry.shape;
  shape.back() += 1;
  EXPECT_THROW(weights.TakeUnread(entry.name, shape), Error);
}

TEST(Loading, TellsWhatItTook) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const Checkpoint checkpoint = Checkpoint::Open(kVl / "model");
  const ModelConfig config = LoadConfig(kVl / "model", HeadersOf(checkpoint));
  PipelineOptions options;
  options.times = std::make_shared<LoadTimes>();
  const Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu", "cpu"}), options);
  EXPECT_EQ(options.times->weight_bytes, 2 * ParameterCount(config));
  EXPECT_GT(options.times->weights_s, 0);
}

TEST(Loading, ListsTensorsThatAreNotThere) {
  if (!fs::exists(kVl)) GTEST_SKIP() << "no goldens in " << kVl;
  const Checkpoint checkpoint = Checkpoint::Open(kVl / "model");
  ModelConfig config = LoadConfig(kVl / "model", HeadersOf(checkpoint));
  config.layers = 3;
  config.vocab_size = 2047;
  try {
    const Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu"}), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("model.layers.2.attention.wqkv.weight"),
                                    HasSubstr("model.layers.2.ffn_norm.weight"),
                                    HasSubstr("output.weight: found BF16 [2048, 256]")));
  }
}

TEST(StoredAs, RefusesOverflowAndCountsUnderflow) {
  const at::Tensor fine = at::tensor({1.0f, -2.5f, 0.0f, 1e-9f}).to(at::kBFloat16);
  CastCounts counts;
  EXPECT_EQ(StoredAs(fine, WeightStorage::kFloat16, "fine", counts).scalar_type(), at::kHalf);
  EXPECT_EQ(counts.underflows, 1);
  const at::Tensor large = at::tensor({1.0f, 1e5f, -1e6f}).to(at::kBFloat16);
  try {
    StoredAs(large, WeightStorage::kFloat16, "large", counts);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("tensor"), "large");
    EXPECT_THAT(error.what(), HasSubstr("2 values"));
  }
  EXPECT_NO_THROW(StoredAs(large, WeightStorage::kFloat32, "large", counts));
  EXPECT_EQ(counts.underflows, 1);
}

}  // namespace
}  // namespace xcomposer
