// The kernels at the full size of a 7B checkpoint, on random weights that are made on the card.
//
//   bench_gpu_model [--only BEGINNING_OF_A_NAME]...
//
// decode.bs8.ctx1024: one step of 8 sequences, of 1024 keys each, the new one included, as a CUDA
// graph. prefill.1289: a prompt to its first new id. vision: pixels to the rows of the prompt.
// ttft: both. part: one kernel, or one with its norm and rotation, of one layer. variant, only
// where --only names it: shapes of products of few rows and tilings of attention, of which the
// library takes one. One line of JSON per figure (figures.h); exit codes 0, 1 where a figure
// failed, 2 wrong usage, 5 no device.
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "bench/cuda/attention_variants.h"
#include "bench/cuda/decode_step.h"
#include "bench/cuda/few_rows_variants.h"
#include "bench/cuda/figures.h"
#include "bench/cuda/prefill_pass.h"
#include "bench/cuda/probe_kernels.h"
#include "bench/cuda/vision_pass.h"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kWorkspace = int64_t{64} << 20;

struct NamedPart {
  DecodePart part;
  const char* name;
};
constexpr NamedPart kParts[] = {
    {DecodePart::kQkv, "qkv"},       {DecodePart::kAttention, "attention"},
    {DecodePart::kWo, "wo"},         {DecodePart::kGateUp, "gate_up"},
    {DecodePart::kW2, "w2"},         {DecodePart::kLogits, "logits"},
    {DecodePart::kSample, "sample"},
};

DeviceMemory::Fill FillOnDevice(GpuTimer& timer) {
  return [&timer, seed = uint64_t{1}](DeviceBytes& to, int64_t count, float mean,
                                      float deviation) mutable {
    // The allocation was poisoned on the default stream.
    Check(cudaDeviceSynchronize(), "the device");
    Check(FillRandom({.data = to.data(),
                      .count = count,
                      .seed = seed++,
                      .mean = mean,
                      .deviation = deviation},
                     timer.context()),
          "FillRandom");
  };
}

std::vector<int32_t> Ids(int64_t count, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((i * 7919 + 17) % vocab));
  return ids;
}

class ModelBench {
 public:
  ModelBench(Figures& figures, GpuTimer& timer)
      : figures_(figures), timer_(timer), memory_(FillOnDevice(timer)), decoder_(shape_, memory_) {}

  void MeasureDecode(int64_t sequences, int64_t keys) {
    const std::string place = "bs" + std::to_string(sequences) + ".ctx" + std::to_string(keys);
    figures_.Group("decode." + place, [&] { Decode(sequences, keys, place); });
  }

  /// Only the attention, at the place where it is compared with others' kernels.
  void MeasureDecodeAttention(int64_t sequences, int64_t keys) {
    const std::string name =
        "part.bs" + std::to_string(sequences) + ".ctx" + std::to_string(keys) + ".attention";
    figures_.Group(name, [&] {
      if (!Fits(CacheBytes(sequences, keys), name)) return;
      DeviceMemory memory(FillOnDevice(timer_));
      const KvCache cache(shape_, sequences, keys, memory);
      const DecodeStep step = Step(cache, sequences, keys, memory, {});
      step.Enqueue(timer_.context());
      Part(step, {DecodePart::kAttention, "attention"}, name);
    });
  }

  void MeasureSampling() {
    figures_.Group("part.bs1.sample_top_k_top_p", [&] {
      DeviceMemory memory(FillOnDevice(timer_));
      const KvCache cache(shape_, 1, 32, memory);
      const DecodeStep step = Step(cache, 1, 32, memory,
                                   {.seed = 1,
                                    .dropped_mass = 0.2f,
                                    .repetition_penalty = 1.005f,
                                    .top_k = 50,
                                    .do_sample = 1});
      step.Enqueue(timer_.context());
      Part(step, {DecodePart::kSample, "sample"}, "part.bs1.sample_top_k_top_p");
    });
  }

  void MeasureVariants() {
    figures_.Group("variant.attention.", [&] {
      AttentionVariants(shape_, figures_, timer_, FillOnDevice(timer_)).Measure();
    });
    figures_.Group("variant.", [&] {
      DeviceMemory memory(FillOnDevice(timer_));
      FewRowsVariants(decoder_, figures_, timer_, memory).Measure();
    });
  }

  /// `pictures`: the rows of one picture, after 20 rows of text.
  void MeasurePrefill(const std::string& name, int64_t rows, int64_t pictures) {
    figures_.Group(name, [&] {
      if (!Fits(CacheBytes(1, rows) + PromptBytes(rows), name)) return;
      DeviceMemory memory(FillOnDevice(timer_));
      const KvCache cache(shape_, 1, rows, memory);
      const void* features = memory.RandomStored(std::max<int64_t>(1, pictures) * shape_.hidden, 1);
      const PrefillPass pass = Prompt(cache, rows, pictures, memory);
      LinearPlans plans(memory.Variable<char>(kWorkspace), kWorkspace);
      figures_.Give(name,
                    timer_.Measure([&] { pass.Enqueue(features, plans, timer_.context()); },
                                   {.most_runs = 20, .budget_s = 1.0}),
                    {.flops = pass.flops()});
      const std::string part = "part." + name + ".attention";
      figures_.Give(
          part,
          timer_
              .Measure([&] {
                AllLayers([&](int64_t layer) { pass.Attention(layer, timer_.context()); });
              })
              .Part(static_cast<double>(shape_.layers)),
          {.flops = pass.attention_flops()});
    });
  }

  /// A picture to its rows, and with `text` more rows to the first new id.
  void MeasurePicture(const std::string& name, int64_t grid, std::optional<Tiling> tiling,
                      int64_t text) {
    figures_.Group("vision." + name, [&] {
      if (!Fits(int64_t{8} << 30, "vision." + name)) return;
      DeviceMemory memory(FillOnDevice(timer_));
      VisionShape shape;
      shape.grid = grid;
      if (tiling) shape.projected = 4 * shape.hidden;
      const VisionTower tower(shape, memory);
      const VisionPass pass(tower, tiling, memory);
      const int64_t numbers = pass.views() * 3 * shape.side() * shape.side();
      const auto* pixels = static_cast<const float*>(static_cast<const void*>(
          memory.RandomStored(2 * numbers, 1.0f)));  // any bits will do: pairs of small float16
      LinearPlans plans(memory.Variable<char>(kWorkspace), kWorkspace);
      const auto see = [&] { pass.Enqueue(pixels, plans, timer_.context()); };
      figures_.Give("vision." + name, timer_.Measure(see), {.flops = pass.flops()});
      figures_.Give(
          "part.vision." + name + ".attention",
          timer_.Measure([&] { AllLayers([&](int64_t) { pass.Attention(timer_.context()); }); })
              .Part(static_cast<double>(shape_.layers)),
          {.flops = pass.attention_flops()});

      const int64_t rows = pass.feature_rows() + text;
      const KvCache cache(shape_, 1, rows, memory);
      const PrefillPass prompt = Prompt(cache, rows, pass.feature_rows(), memory);
      figures_.Give("ttft." + name,
                    timer_.Measure(
                        [&] {
                          see();
                          prompt.Enqueue(pass.features(), plans, timer_.context());
                        },
                        {.most_runs = 20, .budget_s = 1.0}),
                    {.flops = pass.flops() + prompt.flops()});
    });
  }

 private:
  int64_t CacheBytes(int64_t sequences, int64_t keys) const {
    return sequences * keys * shape_.layers * 2 * shape_.kv() * 2;
  }
  int64_t PromptBytes(int64_t rows) const {
    return rows * (6 * shape_.hidden + 4 * shape_.mixed() + 2 * shape_.qkv() + 4 * shape_.inner +
                   8 * shape_.adapter_rank);
  }
  bool Fits(int64_t bytes, const std::string& name) {
    size_t free = 0;
    size_t total = 0;
    Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    const int64_t needed = bytes + (int64_t{1} << 30);
    if (needed <= static_cast<int64_t>(free)) return true;
    figures_.Skip(name, "needs " + std::to_string(needed >> 20) + " MiB, free are " +
                            std::to_string(free >> 20));
    return false;
  }

  DecodeStep Step(const KvCache& cache, int64_t sequences, int64_t keys, DeviceMemory& memory,
                  const SamplingOptions& options) {
    const std::vector<int32_t> positions(static_cast<size_t>(sequences),
                                         static_cast<int32_t>(keys - 1));
    return {decoder_,         cache,  positions, Ids(sequences, shape_.vocab), memory,
            timer_.context(), options};
  }

  PrefillPass Prompt(const KvCache& cache, int64_t rows, int64_t pictures, DeviceMemory& memory) {
    constexpr int64_t kBefore = 20;
    std::vector<int32_t> ids = Ids(rows, shape_.vocab);
    std::vector<RowSpan> spans;
    if (pictures > 0) spans.push_back({kBefore, kBefore + pictures});
    for (int64_t i = 0; i < pictures; ++i) ids[static_cast<size_t>(kBefore + i)] = -1;
    return {decoder_, cache, 0, ids, spans, memory};
  }

  void AllLayers(const std::function<void(int64_t)>& run) const {
    for (int64_t layer = 0; layer < shape_.layers; ++layer) run(layer);
  }

  void Decode(int64_t sequences, int64_t keys, const std::string& place) {
    if (!Fits(CacheBytes(sequences, keys), "decode." + place)) return;
    DeviceMemory memory(FillOnDevice(timer_));
    const KvCache cache(shape_, sequences, keys, memory);
    const DecodeStep step = Step(cache, sequences, keys, memory, {});
    const Work work{.bytes = static_cast<double>(step.bytes())};
    const auto enqueue = [&] { step.Enqueue(timer_.context()); };
    figures_.Give("decode." + place, timer_.MeasureGraph(enqueue), work);
    for (const NamedPart& part : kParts) Part(step, part, "part." + place + "." + part.name);
    if (sequences > 1 || keys > 1024) return;
    figures_.Give("decode." + place + ".no_graph", timer_.Measure(enqueue), work);
    if (!timer_.context().programmatic_launch) return;
    Context plain = timer_.context();
    plain.programmatic_launch = false;
    figures_.Give("decode." + place + ".no_programmatic_launch",
                  timer_.MeasureGraph([&] { step.Enqueue(plain); }), work);
  }

  /// Over all layers, so that no weight is still in the cache from the run before.
  void Part(const DecodeStep& step, const NamedPart& part, const std::string& name) {
    figures_.Group(name, [&] {
      const Timing timing = timer_.MeasureGraph(
          [&] {
            AllLayers([&](int64_t layer) { step.Enqueue(part.part, layer, timer_.context()); });
          },
          {.least_runs = 5, .most_runs = 20, .budget_s = 0.1});
      figures_.Give(name, timing.Part(static_cast<double>(shape_.layers)),
                    {.bytes = static_cast<double>(step.bytes(part.part))});
    });
  }

  Figures& figures_;
  GpuTimer& timer_;
  const DecoderShape shape_;
  DeviceMemory memory_;
  const Decoder decoder_;
};

int Run(int argc, char** argv) {
  std::vector<std::string> only;
  std::string scratch;
  if (!ReadOptions(argc, argv, only, scratch)) return kWrongUsage;
  if (!DescribeDevice()) return kNoDevice;
  Figures figures(only);
  GpuTimer timer;
  size_t free = 0;
  size_t total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  constexpr size_t kWeights = size_t{18} << 30;
  if (free < kWeights) {
    figures.Skip("model",
                 "the weights take 17 GB; free are " + std::to_string(free >> 20) + " MiB");
    return 0;
  }
  ModelBench bench(figures, timer);
  // In order of value: a run that is stopped has the first ones.
  bench.MeasureDecode(1, 1024);
  bench.MeasurePrefill("prefill.1289.pictures", 1289, 1225);
  bench.MeasurePrefill("prefill.1289", 1289, 0);
  bench.MeasureDecode(8, 1024);
  bench.MeasureDecode(32, 1024);
  bench.MeasurePicture("490", 35, std::nullopt, 64);
  bench.MeasureDecode(1, 8192);
  bench.MeasureDecode(8, 8192);
  bench.MeasureDecode(32, 8192);
  bench.MeasureDecodeAttention(32, 4096);
  bench.MeasurePrefill("prefill.512", 512, 0);
  bench.MeasurePrefill("prefill.2048", 2048, 0);
  bench.MeasurePicture("336x56", 24, Tiling{5, 11}, 64);
  bench.MeasurePrefill("prefill.8201.pictures", 8201, 8137);
  bench.MeasureSampling();
  if (!only.empty()) bench.MeasureVariants();
  return figures.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace xcomposer::cuda

int main(int argc, char** argv) {
  try {
    return xcomposer::cuda::Run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
