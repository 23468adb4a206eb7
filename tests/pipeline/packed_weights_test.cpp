#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "config/weight_names.h"
#include "gmock/gmock.h"
#include "golden_case.h"
#include "model/random_weights.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/dry_run.h"
#include "pipeline/pipeline.h"
#include "pipeline/quantise_checkpoint.h"
#include "tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

using testing::HasSubstr;
using Method = Quantization::Method;

const fs::path kGoldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";

const Quantization kStored[] = {
    {Method::kGptq, 4, 32}, {Method::kGptq, 8, -1}, {Method::kAwq, 4, 64}};

ModelConfig PackedModel(Kind kind, const Quantization& stored) {
  ModelConfig config = TinyModel(kind);
  config.quantization = stored;
  return config;
}

/// Gives the same numbers as `packed`, dequantised to float32.
class DequantisedWeights final : public WeightSource {
 public:
  explicit DequantisedWeights(WeightSource& packed) : packed_(packed) {}

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override {
    const std::string module = name.substr(0, name.rfind('.'));
    const bool linear = module.find("model.layers.") == 0 && shape.size() == 2 &&
                        module.find("lora_") == std::string::npos &&
                        module.find("Plora_") == std::string::npos;
    if (!linear) return packed_.Take(name, shape);
    return ops::Dequantised(packed_.TakeLinear(module, shape[0], shape[1]));
  }

  WeightSource& packed_;
};

std::vector<float> Scores(WeightSource& weights, const ModelConfig& config, size_t stages) {
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.max_batch_rows = 200;
  Pipeline pipeline(weights, config, EvenDeviceMap(config, std::vector<std::string>(stages, "cpu")),
                    options);
  const EncodedPicture picture = pipeline.Encode(TinyPicture(config), "image0", {});
  std::vector<int32_t> blocks;
  for (int32_t b = 0; b < 40; ++b) blocks.push_back(b);
  const TinySequence sequence = MakeSequence(picture.rows + 20, picture, blocks);
  std::vector<float> scores;
  const int64_t prompt = picture.rows + 15;
  for (const auto& [begin, end] :
       {std::pair<int64_t, int64_t>{0, prompt}, {prompt, prompt + 1}, {prompt + 1, prompt + 2}}) {
    Batch batch;
    AddSlice(batch, sequence, begin, end, config);
    const Logits logits = pipeline.Forward(batch);
    scores.insert(scores.end(), logits.values.begin(), logits.values.end());
  }
  return scores;
}

class PackedModels : public testing::TestWithParam<Quantization> {};

// Packed and dequantised weights are the same numbers; only the order of sums differs.
TEST_P(PackedModels, AgreesWithDequantisedWeights) {
  for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
    const ModelConfig config = PackedModel(kind, GetParam());
    RandomWeights packed(7, GetParam());
    const std::vector<float> found = Scores(packed, config, 1);
    RandomWeights again(7, GetParam());
    const ModelConfig plain = TinyModel(kind);
    DequantisedWeights dense(again);
    const std::vector<float> expected = Scores(dense, plain, 1);
    ASSERT_EQ(found.size(), expected.size());
    double squares = 0;
    for (const float x : expected) squares += static_cast<double>(x) * x;
    const double bound = 1e-4 * std::sqrt(squares / static_cast<double>(expected.size()));
    ASSERT_GT(bound, 0);
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], bound) << i;
  }
}

TEST_P(PackedModels, TwoStagesGiveTheSameBits) {
  const ModelConfig config = PackedModel(Kind::kVl7b, GetParam());
  RandomWeights one(9, GetParam());
  RandomWeights two(9, GetParam());
  EXPECT_EQ(Scores(one, config, 1), Scores(two, config, 2));
}

TEST_P(PackedModels, RunDry) { DryRun(PackedModel(Kind::k25_7b, GetParam())); }

INSTANTIATE_TEST_SUITE_P(, PackedModels, testing::ValuesIn(kStored), [](const auto& info) {
  return std::string(info.param.method == Method::kAwq ? "awq" : "gptq") +
         std::to_string(info.param.bits) + "_" + std::to_string(info.index);
});

/// The first rows of two linears as the generator of the goldens wrote them: bit for bit.
TEST(PackedGoldens, DequantiseBitForBit) {
  const c10::InferenceMode inference;
  int compared = 0;
  for (const char* kind : {"2-vl-7b-4bit", "2.5-7b-4bit"}) {
    if (!fs::exists(kGoldens / kind)) GTEST_SKIP() << "no goldens in " << kGoldens;
    const Checkpoint checkpoint = Checkpoint::Open(kGoldens / kind / "model");
    const ModelConfig config = LoadConfig(kGoldens / kind / "model", HeadersOf(checkpoint));
    EXPECT_EQ(config.quantization.method,
              std::string(kind) == "2.5-7b-4bit" ? Method::kAwq : Method::kGptq);
    CheckpointWeights weights(checkpoint, config.quantization, {}, WeightStorage::kAsStored, {});
    const auto file = MappedFile::Open(kGoldens / kind / "dequant.safetensors");
    for (const TensorEntry& entry : ParseSafetensors(file->bytes(), "dequant").tensors) {
      ASSERT_EQ(entry.dtype, DType::kF32);
      const bool wqkv = entry.name.find("wqkv") != std::string::npos;
      const std::string module = entry.name.substr(0, entry.name.rfind(".weight"));
      const at::Tensor dense = ops::Dequantised(
          wqkv ? weights.TakeLinear(module, config.wqkv_rows(), config.hidden_size)
               : weights.TakeLinear(module, config.hidden_size, config.intermediate_size));
      ASSERT_EQ(entry.shape[1], dense.size(1));
      EXPECT_EQ(std::memcmp(dense.const_data_ptr(), file->bytes().data() + entry.offset,
                            static_cast<size_t>(entry.byte_length)),
                0)
          << entry.name;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4);
}

/// A folder that goes away.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::path(testing::TempDir()) / ("xcomposer_packed_" + name)) {
    fs::remove_all(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Writes a checkpoint of random weights; `change` may alter a tensor, or take it away by returning
/// an undefined one.
void WriteRandom(const ModelConfig& config, const fs::path& folder,
                 const std::function<at::Tensor(const std::string&, at::Tensor)>& change = {}) {
  const c10::InferenceMode inference;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const WeightSpec& spec : WeightTable(config)) {
    at::Tensor tensor;
    if (spec.name.find(".g_idx") != std::string::npos) {
      tensor = at::arange(spec.shape[0], at::kInt)
                   .div(config.quantization.GroupOf(spec.shape[0]), "floor")
                   .to(at::kInt);
    } else if (spec.numbers == NumberKind::kInt32) {
      tensor = at::full(spec.shape, 0x76543210, at::kInt);
    } else if (spec.numbers == NumberKind::kFloat16) {
      tensor = at::full(spec.shape, 0.01, at::kHalf);
    } else {
      RandomWeights weights(3);
      tensor = weights.Take(spec.name, spec.shape);
    }
    if (change) tensor = change(spec.name, tensor);
    if (tensor.defined()) tensors.push_back({spec.name, tensor.contiguous()});
  }
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors) {
    const DType type = tensor.scalar_type() == at::kInt     ? DType::kI32
                       : tensor.scalar_type() == at::kHalf  ? DType::kF16
                       : tensor.scalar_type() == at::kFloat ? DType::kF32
                                                            : DType::kBF16;
    sources.push_back(
        {name, type, tensor.sizes().vec(), [tensor = tensor](const ByteSink& sink) {
           sink({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
         }});
  }
  WriteSafetensors(sources, folder, {});
}

void ExpectRefused(const ModelConfig& config, const fs::path& folder, const std::string& part,
                   const Quantization& quantise = {}) {
  try {
    PipelineOptions options;
    options.quantise = quantise;
    const Pipeline pipeline(Checkpoint::Open(folder), config, EvenDeviceMap(config, {"cpu"}),
                            options);
    ADD_FAILURE() << "no error where one about '" << part << "' was due";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), quantise ? ErrorKind::kUsage : ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(PackedLoading, RefusesOtherOrdersAndParts) {
  const ModelConfig config = PackedModel(Kind::kVl7b, {Method::kGptq, 4, 32});
  const std::string linear = "model.layers.1.feed_forward.w2.linear.";
  {
    Folder folder("order");
    WriteRandom(config, folder.path(), [&](const std::string& name, at::Tensor tensor) {
      return name == linear + "g_idx" ? tensor.flip(0) : tensor;
    });
    ExpectRefused(config, folder.path(), "desc_act");
  }
  {
    Folder folder("zeros");
    WriteRandom(config, folder.path(), [&](const std::string& name, at::Tensor tensor) {
      return name == linear + "qzeros" ? tensor.slice(1, 0, 11) : tensor;
    });
    ExpectRefused(config, folder.path(), linear + "qzeros: found I32 [5, 11], expected [5, 12]");
  }
  {
    Folder folder("scales");
    WriteRandom(config, folder.path(), [&](const std::string& name, at::Tensor tensor) {
      return name == linear + "scales" ? tensor.to(at::kFloat) : tensor;
    });
    ExpectRefused(config, folder.path(), linear + "scales: found F32");
  }
  {
    Folder folder("bare");  // without what may be missing
    WriteRandom(config, folder.path(), [&](const std::string& name, at::Tensor tensor) {
      const bool bare =
          name.find("g_idx") != std::string::npos || name.find("linear.bias") != std::string::npos;
      return bare ? at::Tensor() : tensor;
    });
    EXPECT_NO_THROW(
        Pipeline(Checkpoint::Open(folder.path()), config, EvenDeviceMap(config, {"cpu"}), {}));
    ExpectRefused(config, folder.path(), "quantised already", kInt8);
  }
}

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

// At load or from a folder that was written before: the same numbers to the last bit. And they are
// close to those of the 16-bit weights, closer with 8 bits than with 4.
TEST(QuantiseCheckpoint, OfflineEqualsAtLoad) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
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
    EXPECT_EQ(report.linears, 5 * config.layers);
    EXPECT_TRUE(fs::exists(written.path() / "quantize_config.json"));
    EXPECT_TRUE(fs::exists(written.path() / "config.json"));
    ModelConfig packed = config;
    packed.quantization = wanted;
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
    // each of three layers add up to less than twice their root.
    EXPECT_LT(relative, 2 * std::sqrt(15.0) * report.relative_error);
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

TEST(QuantiseCheckpoint, NamesTheTensorThatIsNotFinite) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
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

}  // namespace
}  // namespace xcomposer
