#include <c10/core/InferenceMode.h>

#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "config/weight_names.h"
#include "gmock/gmock.h"
#include "golden_case.h"
#include "model/random_weights.h"
#include "packed_model.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/dry_run.h"
#include "pipeline/pipeline.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

using testing::HasSubstr;
using Method = Quantization::Method;

const fs::path kGoldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";

const Quantization kStored[] = {{Method::kGptq, 4, 32},
                                {Method::kGptq, 8, -1},
                                {Method::kAwq, 4, 64},
                                {Method::kGptq, 4, 32, 8, 64},
                                {Method::kGptq, 8, 32, 4, -1}};

const Quantization kOwn[] = {kInt8,
                             kInt4,
                             {Method::kOwn, 4, 64},
                             {Method::kOwn, 8, -1, 4, 32},
                             {Method::kOwn, 4, 144, 4, -1}};

/// Gives the same numbers as `packed`, which is stored so, dequantised to float32.
class DequantisedWeights final : public WeightSource {
 public:
  DequantisedWeights(WeightSource& packed, const Quantization& stored)
      : packed_(packed), has_head_(stored.Head()) {}

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override {
    const std::string module = name.substr(0, name.rfind('.'));
    if (name == "output.weight" && has_head_) {
      return ops::Dequantised(packed_.TakeHead(module, shape[0], shape[1]));
    }
    const bool linear = module.find("model.layers.") == 0 && shape.size() == 2 &&
                        module.find("lora_") == std::string::npos &&
                        module.find("Plora_") == std::string::npos;
    if (!linear) return packed_.Take(name, shape);
    return ops::Dequantised(packed_.TakeLinear(module, shape[0], shape[1]));
  }

  WeightSource& packed_;
  bool has_head_;
};

std::vector<float> Scores(WeightSource& weights, const ModelConfig& config, size_t stages) {
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.max_batch_rows = 200;
  Pipeline pipeline(weights, config, EvenDeviceMap(config, std::vector<std::string>(stages, "cpu")),
                    options);
  const EncodedPicture picture = pipeline.Encode(TinyPicture(config), "image0", {}, {});
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

struct BothScores {
  std::vector<float> packed;
  std::vector<float> dense;  ///< of the same numbers, dequantised
};

BothScores ScoresOfBoth(const ModelConfig& config) {
  RandomWeights packed(7, config.quantization);
  RandomWeights again(7, config.quantization);
  DequantisedWeights dense(again, config.quantization);
  ModelConfig plain = config;
  plain.quantization = {};
  BothScores scores{Scores(packed, config, 1), Scores(dense, plain, 1)};
  if (scores.packed.size() != scores.dense.size()) throw std::runtime_error("other scores");
  return scores;
}

double SumOfSquares(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * x;
  return sum;
}

void ExpectStagesGiveTheSameBits(const ModelConfig& config) {
  RandomWeights one(9, config.quantization);
  RandomWeights two(9, config.quantization);
  EXPECT_EQ(Scores(one, config, 1), Scores(two, config, 2));
}

class PackedModels : public testing::TestWithParam<Quantization> {};

// Packed and dequantised weights are the same numbers; only the order of sums differs.
TEST_P(PackedModels, AgreesWithDequantisedWeights) {
  for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
    const auto [found, expected] = ScoresOfBoth(PackedModel(kind, GetParam()));
    const double bound =
        1e-4 * std::sqrt(SumOfSquares(expected) / static_cast<double>(expected.size()));
    ASSERT_GT(bound, 0);
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], bound) << i;
  }
}

TEST_P(PackedModels, TwoStagesGiveTheSameBits) {
  ExpectStagesGiveTheSameBits(PackedModel(Kind::kVl7b, GetParam()));
}

TEST_P(PackedModels, RunDry) { DryRun(PackedModel(Kind::k25_7b, GetParam())); }

INSTANTIATE_TEST_SUITE_P(, PackedModels, testing::ValuesIn(kStored), [](const auto& info) {
  return std::string(info.param.method == Method::kAwq ? "awq" : "gptq") +
         std::to_string(info.param.bits) + "_" + std::to_string(info.index);
});

class OwnModels : public testing::TestWithParam<Quantization> {};

// Activations are rounded too. A step is 1/127 of a block's largest number, and an error evenly
// spread over a step is 0.29 of it; where the largest is twice the numbers' usual size, that is 0.5
// % of a product. The sixteen products after each other (five in each of three layers, and the
// output) add up as squares do, to four times as much.
TEST_P(OwnModels, IsCloseToDequantisedWeights) {
  for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
    auto [found, expected] = ScoresOfBoth(PanelModel(kind, GetParam()));
    for (size_t i = 0; i < found.size(); ++i) found[i] -= expected[i];
    ASSERT_GT(SumOfSquares(expected), 0);
    EXPECT_LT(std::sqrt(SumOfSquares(found) / SumOfSquares(expected)), 0.02);
  }
}

TEST_P(OwnModels, TwoStagesGiveTheSameBits) {
  ExpectStagesGiveTheSameBits(PanelModel(Kind::kVl7b, GetParam()));
}

TEST_P(OwnModels, RunDry) { DryRun(PanelModel(Kind::k25_7b, GetParam())); }

INSTANTIATE_TEST_SUITE_P(, OwnModels, testing::ValuesIn(kOwn), [](const auto& info) {
  return "int" + std::to_string(info.param.bits) + "_" + std::to_string(info.index);
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

TEST(PackedLoading, RefusesOwnPartsOfOtherShapes) {
  const ModelConfig config = PanelModel(Kind::kVl7b, kInt4);
  const std::string linear = "model.layers.1.feed_forward.w2.";
  const auto expect = [&](const std::string& part, const auto& change) {
    Folder folder("own");
    WriteRandom(config, folder.path(), change);
    ExpectRefused(config, folder.path(), part);
  };
  expect(linear + "zeros: found I32 [6, 4, 2], expected [6, 5, 2]",
         [&](const std::string& name, at::Tensor tensor) {
           return name == linear + "zeros" ? tensor.slice(1, 0, 4) : tensor;
         });
  expect(linear + "codes: found I32 [6, 18], expected [6, 18, 16]",
         [&](const std::string& name, at::Tensor tensor) {
           return name == linear + "codes" ? tensor.select(2, 0) : tensor;
         });
  expect("output.scales: found F32 [14, 1, 16]", [](const std::string& name, at::Tensor tensor) {
    return name == "output.scales" ? tensor.to(at::kFloat) : tensor;
  });
  expect("missing:\n  output.zeros", [](const std::string& name, at::Tensor tensor) {
    return name == "output.zeros" ? at::Tensor() : tensor;
  });
  Folder whole("own_whole");
  WriteRandom(config, whole.path());
  EXPECT_NO_THROW(
      Pipeline(Checkpoint::Open(whole.path()), config, EvenDeviceMap(config, {"cpu"}), {}));
  ExpectRefused(config, whole.path(), "quantised already (xcomposer 4 bit", kInt8);
}

TEST(PackedLoading, RefusesOutputsThatContradictThemselves) {
  const ModelConfig config = PackedModel(Kind::kVl7b, {Method::kGptq, 4, 32, 8, 32});
  const auto expect = [&](const std::string& part, const auto& change) {
    Folder folder("output");
    WriteRandom(config, folder.path(), change);
    ExpectRefused(config, folder.path(), part);
  };
  expect("missing:\n  output.scales", [](const std::string& name, at::Tensor tensor) {
    return name == "output.scales" ? at::Tensor() : tensor;
  });
  expect("output.qweight: found I32 [24, 215], expected [24, 216]",
         [](const std::string& name, at::Tensor tensor) {
           return name == "output.qweight" ? tensor.slice(1, 0, 215) : tensor;
         });
  expect("output.g_idx puts input 0 into group 2", [](const std::string& name, at::Tensor tensor) {
    return name == "output.g_idx" ? tensor.flip(0) : tensor;
  });
  // Both: the words decide, and the matrix is a tensor too many.
  ModelConfig stored = config;
  stored.quantization.head_bits = 0;
  Folder both("both");
  WriteRandom(stored, both.path() / "stored");
  WriteRandom(config, both.path() / "packed");
  WeightHeaders headers = HeadersOf(Checkpoint::Open(both.path() / "packed"));
  EXPECT_NO_THROW(CheckWeights(config, headers));
  headers.merge(HeadersOf(Checkpoint::Open(both.path() / "stored")));
  std::vector<std::string> notes;
  EXPECT_EQ(SettleQuantization(&headers, std::nullopt, config.hidden_size, notes),
            config.quantization);
  try {
    CheckWeights(config, headers);
    ADD_FAILURE() << "both were taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("unexpected:\n  output.weight"));
  }
}

}  // namespace
}  // namespace xcomposer
