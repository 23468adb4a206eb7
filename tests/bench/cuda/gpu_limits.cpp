// What the card and its link can do at best: the figures that every other one is a share of.
//
//   bench_gpu_limits [--only BEGINNING_OF_A_NAME]... [--scratch FOLDER]
//
// One line of JSON per figure (figures.h). FOLDER takes a file of 2 GiB for a moment. Exit codes:
// 0, 1 where a figure failed, 2 wrong usage, 5 no device. tools/gpu_check runs this.
#include <iostream>
#include <string>
#include <vector>

#include "bench/cuda/figures.h"
#include "bench/cuda/gemm_search.h"
#include "bench/cuda/host_link.h"
#include "bench/cuda/probe_kernels.h"
#include "bench/cuda/weight_link.h"

namespace xcomposer::cuda {
namespace {

/// Plain device memory; no guards, no poison.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) {
    Check(cudaMalloc(&data_, static_cast<size_t>(bytes)), "memory");
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

/// Random, since equal bits cost less power and so flatter the clock.
void Fill(void* data, int64_t bytes, GpuTimer& timer) {
  Check(FillRandom({.data = data, .count = bytes / 2, .seed = 1}, timer.context()), "FillRandom");
  timer.Wait();
}

int64_t StreamBytes() {
  size_t free = 0;
  size_t total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  constexpr int64_t kWanted = int64_t{4} << 30;
  return std::min<int64_t>(kWanted, static_cast<int64_t>(free) / 3) / (1 << 20) * (1 << 20);
}

void MeasureMemory(Figures& figures, GpuTimer& timer) {
  const int64_t bytes = StreamBytes();
  const Buffer from(bytes);
  const Buffer to(bytes);
  Fill(from.data(), bytes, timer);
  const StreamParams params{from.data(), to.data(), bytes / 16};
  const TimingOptions quick{.least_runs = 5, .most_runs = 20, .budget_s = 0.06};
  Timing read;
  Timing copy;
  std::string read_note;
  std::string copy_note;
  for (const int loads : {4, 8, 16}) {
    for (const int threads : {256, 512, 1024}) {
      for (const int blocks : {1, 2, 4}) {
        if (threads * blocks > 2048) continue;
        const ReadShape shape{loads, threads, blocks};
        const std::string note = std::to_string(loads) + " loads, " + std::to_string(threads) +
                                 " threads, " + std::to_string(blocks) + " blocks";
        const Timing r = timer.Measure(
            [&] { Check(ReadAll(params, shape, timer.context()), "ReadAll"); }, quick);
        if (read.runs == 0 || r.median < read.median) read = r, read_note = note;
        const Timing c = timer.Measure(
            [&] { Check(CopyAll(params, shape, timer.context()), "CopyAll"); }, quick);
        if (copy.runs == 0 || c.median < copy.median) copy = c, copy_note = note;
      }
    }
  }
  const auto once = static_cast<double>(bytes);
  figures.Give("memory.read", read, {.bytes = once}, read_note);
  if (timer.context().warpgroup_products) {
    figures.Give("memory.read_bulk",
                 timer.Measure([&] { Check(ReadInBulk(params, timer.context()), "ReadInBulk"); }),
                 {.bytes = once});
  }
  figures.Give("memory.copy", copy, {.bytes = 2 * once}, copy_note);
  const auto size = static_cast<size_t>(bytes);
  figures.Give("memory.copy_driver", timer.Measure([&] {
    Check(cudaMemcpyAsync(to.data(), from.data(), size, cudaMemcpyDeviceToDevice, timer.stream()),
          "cudaMemcpyAsync");
  }),
               {.bytes = 2 * once});
  figures.Give("memory.write", timer.Measure([&] {
    Check(cudaMemsetAsync(to.data(), 1, size, timer.stream()), "memset");
  }),
               {.bytes = once});
}

/// The products' rate, which every share of a prompt's and a picture's products is of.
std::vector<GemmShape> LargestShape() { return {{8192, 8192, 8192}}; }

std::vector<GemmShape> ModelShapes() {
  std::vector<GemmShape> shapes;
  for (const int64_t m : {512, 1289, 2048, 8201}) {
    shapes.push_back({m, 6144, 4096});   // wqkv
    shapes.push_back({m, 4096, 4096});   // wo
    shapes.push_back({m, 28672, 4096});  // w1 and w3
    shapes.push_back({m, 4096, 14336});  // w2
  }
  const GemmShape apart[] = {
      // The adapters on a picture's rows: down (of one, of two that share their input), and up.
      {1225, 256, 4096},
      {1225, 256, 4096, 2},
      {1225, 256, 14336},
      {1225, 4096, 256, 1, true},
      {1225, 14336, 256, 1, true},
      // Down of two in one, and the layer's products with the second factor beside their weights.
      {1225, 512, 4096},
      {1225, 256, 4096, 1, false, 4},  // sums in parts, which fill the device better
      {1225, 256, 4096, 1, false, 8},
      {1225, 512, 4096, 1, false, 4},
      {1225, 256, 14336, 1, false, 8},
      {1289, 6144, 4096 + 256},
      {1289, 4096, 4096 + 256},
      {1289, 14336, 4096 + 256, 2},
      {1289, 4096, 14336 + 256},
      // Weights that share their input, in one call: w1 and w3; queries, keys and values.
      {1289, 14336, 4096},
      {1289, 14336, 4096, 2},
      {1226, 1024, 1024, 2},
      {1226, 1024, 1024, 3},
  };
  shapes.insert(shapes.end(), std::begin(apart), std::end(apart));
  for (const int64_t m : {1226, 32312}) {  // one view of 490 pixels, 56 of 336
    shapes.push_back({m, 3072, 1024});
    shapes.push_back({m, 1024, 1024});
    shapes.push_back({m, 4096, 1024});
    shapes.push_back({m, 1024, 4096});
  }
  return shapes;
}

void MeasureGemms(Figures& figures, GpuTimer& timer, const std::vector<GemmShape>& shapes) {
  int64_t x = 0;
  int64_t w = 0;
  int64_t y = 0;
  for (const GemmShape& s : shapes) {
    x = std::max(x, s.m * s.k);
    w = std::max(w, s.weights * s.n * s.k);
    y = std::max(y, s.parts * (s.parts > 1 ? 2 : 1) * s.weights * s.m * s.n);
  }
  constexpr int64_t kWorkspace = int64_t{64} << 20;
  const Buffer x_buffer(2 * x);
  const Buffer w_buffer(2 * w);
  const Buffer y_buffer(2 * y);
  const Buffer workspace(kWorkspace);
  Fill(x_buffer.data(), 2 * x, timer);
  Fill(w_buffer.data(), 2 * w, timer);
  Fill(y_buffer.data(), 2 * y, timer);
  const GemmMemory memory{x_buffer.data(), w_buffer.data(), y_buffer.data(), workspace.data(),
                          kWorkspace};
  for (const GemmShape& s : shapes) {
    std::string name =
        "gemm." + std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
    if (s.weights > 1) name += "x" + std::to_string(s.weights);
    if (s.add) name += "+";
    if (s.parts > 1) name += "/" + std::to_string(s.parts);
    figures.Group(name, [&] {
      const GemmTimes times = SearchGemm(s, memory, timer);
      figures.Give(name + ".best", times.best, {.flops = s.flops()},
                   "of " + std::to_string(times.tried));
      figures.Give(name + ".first", times.first, {.flops = s.flops()});
    });
  }
}

void MeasureLaunches(Figures& figures, GpuTimer& timer) {
  constexpr int kCount = 1000;
  for (const bool programmatic : {false, true}) {
    const std::string end = programmatic ? "_programmatic" : "";
    if (programmatic && !timer.context().programmatic_launch) {
      figures.Skip("launch.graph" + end, "the card has no programmatic launch");
      continue;
    }
    Context context = timer.context();
    context.programmatic_launch = programmatic;
    const auto enqueue = [&] {
      for (int i = 0; i < kCount; ++i) Check(Nothing(context), "Nothing");
    };
    figures.Give("launch.stream" + end, timer.Measure(enqueue).Part(kCount), {});
    figures.Give("launch.graph" + end, timer.MeasureGraph(enqueue).Part(kCount), {});
  }
}

int Run(int argc, char** argv) {
  std::vector<std::string> only;
  std::string scratch = "/tmp";
  if (!ReadOptions(argc, argv, only, scratch)) return kWrongUsage;
  if (!DescribeDevice()) return kNoDevice;
  Figures figures(only);
  GpuTimer timer;
  figures.Group("memory", [&] { MeasureMemory(figures, timer); });
  // Before the rest, which may fail or take all of the time: hosts and files are of all kinds.
  figures.Group("gemm", [&] { MeasureGemms(figures, timer, LargestShape()); });
  figures.Group("launch", [&] { MeasureLaunches(figures, timer); });
  figures.Group("host", [&] { MeasureHostLink(figures, timer, scratch); });
  MeasureWeightLink(figures);
  figures.Group("gemm", [&] { MeasureGemms(figures, timer, ModelShapes()); });
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
