// Keys and values in int8: what the engine computes with them, over stages, copies and ranks.
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "forked_run.h"
#include "kernels/cpu/kv_format.h"
#include "kernels/cpu/thread_pool.h"
#include "model/random_weights.h"
#include "ops/ops.h"
#include "pipeline/pipeline.h"
#include "pipeline/stage.h"
#include "rank_threads.h"
#include "tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using at::Tensor;

constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;
constexpr KvShape kPool = kForkedPool;

/// The numbers that int8 keeps of a head, as float32.
void RoundHead(float* numbers, int64_t dim) {
  std::vector<int8_t> kept(static_cast<size_t>(cpu::KvHeadBytes(cpu::KvFormat::kInt8, dim)));
  cpu::RoundKvHead(numbers, dim, kept.data());
  const int8_t* scales = kept.data() + cpu::KvGroups(dim) * cpu::kKvGroup;
  for (int64_t d = 0; d < dim; ++d) {
    c10::BFloat16 scale;
    std::copy_n(scales + d / cpu::kKvGroup * 2, 2, reinterpret_cast<int8_t*>(&scale));
    numbers[d] = static_cast<float>(scale) * static_cast<float>(kept[static_cast<size_t>(d)]);
  }
}

/// rope_kv into float32 caches, which it leaves with the numbers that int8 would have kept.
Tensor RopeKvRounded(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
                     Tensor& v_cache, const Tensor& slots) {
  const c10::impl::ExcludeDispatchKeyGuard below(kKey);
  Tensor q = ops::RopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  const int64_t heads = k_cache.size(2);
  const int64_t dim = k_cache.size(3);
  for (Tensor* cache : {&k_cache, &v_cache}) {
    for (int64_t row = 0; row < slots.numel(); ++row) {
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t place = slots.const_data_ptr<int64_t>()[row] * heads + head;
        RoundHead(cache->mutable_data_ptr<float>() + place * dim, dim);
      }
    }
  }
  return q;
}

/// Runs a sequence with a picture on one stage: the prompt in pieces, then token by token beside
/// another sequence. All scores.
std::vector<float> Scores(const ModelConfig& config, at::ScalarType kv) {
  const c10::InferenceMode inference;
  cpu::ThreadPool pool(2);
  const cpu::ThreadPoolScope threads(pool);
  RandomWeights weights(7);
  Stage stage(config, {.end_layer = config.layers}, weights, kPool,
              at::TensorOptions(at::kCPU).dtype(kv));
  const Tensor features = stage.Encode(TinyPicture(config));  // (S, C)
  std::vector<int32_t> blocks;
  for (int32_t b = 0; b < 40; ++b) blocks.push_back((b * 7) % 40);
  const int64_t rows = features.size(0) + 40;
  const TinySequence with_picture = MakeSequence(rows, {.rows = features.size(0)}, blocks);
  const TinySequence text = MakeSequence(9, {}, {50, 41, 63});
  std::vector<float> scores;
  const auto run = [&](const Batch& batch) {
    Tensor hidden = stage.Embed(batch, [&](FeatureHandle) { return features; });  // (T, C)
    stage.Run(hidden, batch);
    const Logits logits = stage.Score(hidden, batch);
    scores.insert(scores.end(), logits.values.begin(), logits.values.end());
  };
  std::vector<Batch> batches(5);
  AddSlice(batches[0], with_picture, 0, 20, config);
  AddSlice(batches[0], text, 0, 7, config);
  AddSlice(batches[1], with_picture, 20, rows - 3, config);
  for (int64_t i = 0; i < 2; ++i) {
    AddSlice(batches[2 + static_cast<size_t>(i)], with_picture, rows - 3 + i, rows - 2 + i, config);
    AddSlice(batches[2 + static_cast<size_t>(i)], text, 7 + i, 8 + i, config);
  }
  AddSlice(batches[4], with_picture, rows - 1, rows, config);
  for (const Batch& batch : batches) run(batch);
  return scores;
}

ModelConfig WithHeadsOf(int64_t dim, Kind kind) {
  ModelConfig config = TinyModel(kind);
  config.hidden_size = config.heads * dim;
  return config;
}

// A scale times a code has no more bits than a float32 holds, and kernels of either format add in
// one order: the very same numbers come out.
TEST(KvPrecision, ScoresAreThoseOfRoundedKeysAndValues) {
  for (const int64_t dim : {16, 40, 64}) {
    for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
      const ModelConfig config = WithHeadsOf(dim, kind);
      const std::vector<float> found = Scores(config, at::kChar);
      const std::vector<float> plain = Scores(config, at::kFloat);
      const c10::impl::IncludeDispatchKeyGuard rounding(kKey);
      EXPECT_EQ(found, Scores(config, at::kFloat)) << ToString(kind) << ", heads of " << dim;
      EXPECT_NE(found, plain);
    }
  }
}

PipelineOptions Int8Options() {
  PipelineOptions options;
  options.kv = kPool;
  options.max_batch_rows = 200;
  options.int8_kv = true;
  return options;
}

TEST(KvPrecision, StagesAndRanksGiveTheSameBits) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  const auto weights = [] { return std::make_unique<RandomWeights>(7); };
  std::vector<float> expected;
  for (const std::vector<int>& ranks :
       std::vector<std::vector<int>>{{0}, {0, 0}, {0, 1}, {0, 0, 1}}) {
    const DeviceMap map = EvenDeviceMap(config, std::vector<std::string>(ranks.size(), "cpu"));
    RankThreads run(weights, config, map, Int8Options(), ranks);
    const std::vector<float> scores = RunForked(run.pipeline(), config);
    if (expected.empty()) expected = scores;
    EXPECT_EQ(scores, expected) << ranks.size() << " stages, " << ranks.back() + 1 << " ranks";
    for (const std::string& failure : run.Join()) EXPECT_EQ(failure, "");
  }
  const auto vocab = static_cast<size_t>(config.vocab_size);
  ASSERT_EQ(expected.size(), 5 * vocab);
  // The fork goes on as what it was copied from did.
  const std::vector<float> original(expected.begin() + 2 * vocab, expected.begin() + 3 * vocab);
  const std::vector<float> forked(expected.begin() + 3 * vocab, expected.begin() + 4 * vocab);
  EXPECT_EQ(forked, original);
}

TEST(KvPrecision, AStageTakesWhatTheFormulaSays) {
  const ModelConfig config = WithHeadsOf(64, Kind::kVl7b);
  for (const bool int8 : {false, true}) {
    RandomWeights weights(7);
    PipelineOptions options = Int8Options();
    options.int8_kv = int8;
    options.memory = std::make_shared<StageMemoryBook>();
    const Pipeline pipeline(weights, config, EvenDeviceMap(config, {"cpu", "cpu"}), options);
    ASSERT_EQ(options.memory->size(), 2u);
    const int64_t kv = (*options.memory)[0].kv + (*options.memory)[1].kv;
    // 256 positions, 3 layers, keys and values of 2 heads.
    EXPECT_EQ(kv, 256 * 3 * 2 * 2 * (int8 ? 64 + 2 * 2 : 4 * 64));
  }
}

TEST(KvPrecision, AGpuIsRefusedBeforeAnyWeightIsRead) {
  class NoWeights final : public WeightSource {
    Tensor Load(const std::string& name, at::IntArrayRef) override {
      ADD_FAILURE() << name << " was read";
      return {};
    }
  };
  const ModelConfig config = TinyModel(Kind::kVl7b);
  NoWeights weights;
  try {
    Pipeline(weights, config, EvenDeviceMap(config, {"cpu", "cuda:0"}), Int8Options());
    ADD_FAILURE() << "it loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_EQ(error.where().at("device"), "cuda:0");
    EXPECT_NE(std::string(error.what()).find("--kv int8"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace xcomposer

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(xcomposer, TESTING_ONLY_GenericMode, m) {
  m.impl("rope_kv", &xcomposer::RopeKvRounded);
}
