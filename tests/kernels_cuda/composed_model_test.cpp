// Whole layers composed of the kernels, as tests/bench/cuda measures them, against float64: that
// every argument stands where it belongs. Under the emulator Linear is that of
// tests/support/emulator.
#include "bench/cuda/decode_step.h"
#include "bench/cuda/prefill_pass.h"
#include "kernels/cuda/linear_few_rows.h"
#include "kernels_cuda/decoder_reference.h"
#include "kernels_cuda/kernel_test.h"
#include "kernels_cuda/vision_reference.h"

namespace xcomposer::cuda {
namespace {

class ComposedModel : public KernelTest {};

constexpr int64_t kWorkspace = int64_t{4} << 20;

DecoderShape SmallDecoder() {
  DecoderShape shape;
  shape.layers = 2;
  shape.hidden = 160;
  shape.heads = {4, 2, 64};
  shape.inner = 224;
  shape.vocab = 134;
  shape.adapter_rank = 24;
  shape.adapter_scale = 0.5f;
  shape.rope_base = 1e4f;
  shape.block_size = 8;
  return shape;
}

DeviceMemory::Fill FillWith(uint64_t seed) {
  return [random = std::make_shared<Random>(seed)](DeviceBytes& to, int64_t count, float mean,
                                                   float deviation) {
    std::vector<Half> values;
    for (const float x : random->Normal<float>(static_cast<size_t>(count), deviation)) {
      values.push_back(Narrow<Half>(mean + x));
    }
    to.Write(values.data(), values.size() * sizeof(Half));
  };
}

std::vector<int32_t> SomeIds(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(random.Below(134)));
  return ids;
}

int32_t Largest(const float* logits, int64_t vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
}

template <typename Number>
std::vector<double> Expected(const Decoder& decoder, const DeviceMemory& memory,
                             const std::vector<int32_t>& ids, const void* features,
                             int64_t feature_rows) {
  Table<Number> table(feature_rows, decoder.shape.hidden);
  if (feature_rows > 0) {
    table = Source<Number>(memory).Read(features, feature_rows, decoder.shape.hidden);
  }
  const auto logits = DecoderReference<Number>(decoder, memory).LastLogits(ids, table);
  return {logits.begin(), logits.end()};
}

void ExpectLogits(const std::vector<float>& actual, const Decoder& decoder,
                  const DeviceMemory& memory, const std::vector<int32_t>& ids, const void* features,
                  int64_t feature_rows, const std::string& what) {
  ExpectWithinBudget(actual, Expected<double>(decoder, memory, ids, features, feature_rows),
                     Expected<float>(decoder, memory, ids, features, feature_rows), what);
}

void Succeeds(const std::string& what, const std::function<void()>& enqueue) {
  std::string problem;
  try {
    enqueue();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  const std::string fault = Finish(cudaSuccess);
  ASSERT_EQ(problem + fault, "") << what;
}

TEST_F(ComposedModel, PromptWithPicturesThenStepsOfOne) {
  const DecoderShape shape = SmallDecoder();
  const std::vector<RowSpan> spans = {{3, 12}, {12, 15}};
  constexpr int64_t kPictureRows = 12;
  std::vector<float> first_bits;
  for (size_t way = 0; way < Ways().size(); ++way) {
    Choose(way);
    const Context context = Ways()[way];
    DeviceMemory memory(FillWith(11));
    const Decoder decoder(shape, memory);
    const KvCache cache(shape, 1, 40, memory);
    const void* features = memory.RandomStored(kPictureRows * shape.hidden, 1.0f);
    std::vector<int32_t> ids = SomeIds(21, 12);
    for (int64_t t = 3; t < 15; ++t) ids[static_cast<size_t>(t)] = -1;
    LinearPlans plans(memory.Variable<char>(kWorkspace), kWorkspace);

    const PrefillPass prompt(decoder, cache, 0, ids, spans, memory);
    Succeeds("prompt", [&] { prompt.Enqueue(features, plans, context); });
    const std::vector<float> logits = memory.Read(prompt.logits(), shape.vocab);
    ExpectLogits(logits, decoder, memory, ids, features, kPictureRows, "prompt");
    const int32_t id = memory.Read(prompt.id(), 1)[0];
    EXPECT_EQ(id, Largest(logits.data(), shape.vocab));

    // Twice at the same place: the second step takes the id that the first one chose.
    const DecodeStep step(decoder, cache, {21}, {id}, memory, context);
    ids.push_back(id);
    for (const char* which : {"first step", "second step"}) {
      Succeeds(which, [&] { step.Enqueue(context); });
      const std::vector<float> next = memory.Read(step.logits(), shape.vocab);
      ExpectLogits(next, decoder, memory, ids, features, kPictureRows, which);
      ids.back() = Largest(next.data(), shape.vocab);
      EXPECT_EQ(memory.Read(step.ids(), 1)[0], ids.back()) << which;
      if (way == 0) first_bits = next;
      if (std::string(which) == "second step") {
        EXPECT_TRUE(SameBits(first_bits, next)) << "the bits depend on the order of threads";
      }
    }
  }
}

/// One step of sequences of these lengths; those without rows are not in use.
void CheckStep(const std::vector<int64_t>& lengths) {
  const DecoderShape shape = SmallDecoder();
  const auto sequences = static_cast<int64_t>(lengths.size());
  for (size_t way = 0; way < Ways().size(); ++way) {
    Choose(way);
    const Context context = Ways()[way];
    DeviceMemory memory(FillWith(13));
    const Decoder decoder(shape, memory);
    const KvCache cache(shape, sequences, 31, memory);
    LinearPlans plans(memory.Variable<char>(kWorkspace), kWorkspace);
    std::vector<std::vector<int32_t>> prompts;
    std::vector<int32_t> positions;
    std::vector<int32_t> ids;
    for (size_t i = 0; i < lengths.size(); ++i) {
      prompts.push_back(SomeIds(lengths[i], 20 + i));
      positions.push_back(lengths[i] == 0 ? -1 : static_cast<int32_t>(lengths[i]));
      ids.push_back(lengths[i] == 0 ? -1 : static_cast<int32_t>(40 + i));
      if (lengths[i] == 0) continue;
      const PrefillPass prompt(decoder, cache, static_cast<int64_t>(i), prompts[i], {}, memory);
      Succeeds("prompt", [&] { prompt.Enqueue(nullptr, plans, context); });
      prompts[i].push_back(ids.back());
    }
    const DecodeStep step(decoder, cache, positions, ids, memory, context);
    Succeeds("step", [&] { step.Enqueue(context); });
    const std::vector<float> logits = memory.Read(step.logits(), sequences * shape.vocab);
    const std::vector<int32_t> chosen = memory.Read(step.ids(), sequences);
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] == 0) continue;
      const auto begin = logits.begin() + static_cast<int64_t>(i) * shape.vocab;
      const std::vector<float> own(begin, begin + shape.vocab);
      ExpectLogits(own, decoder, memory, prompts[i], nullptr, 0, "sequence " + std::to_string(i));
      EXPECT_EQ(chosen[i], Largest(own.data(), shape.vocab));
    }
  }
}

TEST_F(ComposedModel, StepsOfSeveralSequences) { CheckStep({9, 0, 30, 17}); }

TEST_F(ComposedModel, StepsOfSequencesThatFillSeveralTiles) {
  std::vector<int64_t> lengths(17);
  lengths[2] = 9;
  lengths.back() = 12;
  CheckStep(lengths);
}

void CheckPicture(std::optional<Tiling> tiling) {
  VisionShape shape;
  shape.layers = 2;
  shape.hidden = 128;
  shape.heads = 2;
  shape.inner = 168;
  shape.patch = 5;
  shape.grid = 4;
  shape.output = 96;
  shape.projected = tiling ? 4 * shape.hidden : shape.hidden;
  const int64_t views = tiling ? 1 + tiling->rows * tiling->columns : 1;
  const auto pixels =
      Random(31).Normal<float>(static_cast<size_t>(views * 3 * shape.side() * shape.side()), 1);
  for (size_t way = 0; way < Ways().size(); ++way) {
    Choose(way);
    const Context context = Ways()[way];
    DeviceMemory memory(FillWith(32));
    const VisionTower tower(shape, memory);
    const VisionPass pass(tower, tiling, memory);
    ASSERT_EQ(pass.views(), views);
    LinearPlans plans(memory.Variable<char>(kWorkspace), kWorkspace);
    const float* on_device = memory.Written(pixels);
    Succeeds("picture", [&] { pass.Enqueue(on_device, plans, context); });
    const auto actual =
        memory.Read(static_cast<const Half*>(pass.features()), pass.feature_rows() * shape.output);
    const auto exact = VisionReference<double>(tower, memory).Features(pixels, tiling);
    const auto naive = VisionReference<float>(tower, memory).Features(pixels, tiling);
    ASSERT_EQ(exact.rows, pass.feature_rows());
    ExpectWithinBudget(actual, exact.values, Doubles(naive.values.begin(), naive.values.end()),
                       "features");
  }
}

TEST_F(ComposedModel, PictureOfOneView) { CheckPicture(std::nullopt); }
TEST_F(ComposedModel, PictureOfTiles) { CheckPicture(Tiling{2, 1}); }

// Model arithmetic of the 7B checkpoints: 13.959 GB of layers and 0.758 GB of head per step, 13.96
// GFLOP per row of a prompt and 1.208 more per row of a picture.
TEST(DecoderShapes, CountTheRealSizes) {
  const DecoderShape shape;
  EXPECT_NEAR(static_cast<double>(shape.step_bytes()), 14.717e9, 0.001e9);
  EXPECT_NEAR(shape.row_flops(), 13.96e9, 0.01e9);
  EXPECT_NEAR(shape.adapter_row_flops(), 1.208e9, 0.001e9);
}

}  // namespace
}  // namespace xcomposer::cuda
