#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/limits.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"

// Speed of the kernels at the sizes of the 7B decoder and of the vision tower. GB/s counts weights,
// or keys and values, once; GFLOP/s counts a product and a sum as two. Compare with the limits of
// the same machine in the same minute, BM_Read and BM_Fma. XCOMPOSER_BENCH_THREADS sets the count
// of threads.
namespace xcomposer::cpu {
namespace {

int Threads() {
  const char* wanted = std::getenv("XCOMPOSER_BENCH_THREADS");
  return wanted != nullptr ? std::max(1, std::atoi(wanted)) : UsableCores();
}

std::vector<float> Values(int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i % 8191));
  return values;
}

std::vector<uint16_t> Bfloat16Values(int64_t size) {
  std::vector<uint16_t> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<uint16_t>(0x3c00 + i * 7 % 512 + (i % 3 == 0 ? 0x8000 : 0));
  }
  return values;
}

void Flops(benchmark::State& state, double per_iteration) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      per_iteration * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void Bytes(benchmark::State& state, double per_iteration) {
  state.counters["GB/s"] = benchmark::Counter(
      per_iteration * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

/// The limit of everything that multiplies.
void BM_Fma(benchmark::State& state) {
  ThreadPool pool(Threads());
  constexpr int64_t kRounds = 1 << 20;
  const int64_t parts = 16 * pool.threads();
  for (auto _ : state) {
    pool.ParallelFor(
        parts, 1, [](int64_t, int64_t, int) { benchmark::DoNotOptimize(RunFmas(kRounds / 16)); });
  }
  Flops(state, FlopsPerRound() * kRounds * pool.threads());
}
BENCHMARK(BM_Fma)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The limit of everything that multiplies in 8 bits.
void BM_IntegerDots(benchmark::State& state) {
  ThreadPool pool(Threads());
  constexpr int64_t kRounds = 1 << 20;
  const int64_t parts = 16 * pool.threads();
  for (auto _ : state) {
    pool.ParallelFor(parts, 1, [](int64_t, int64_t, int) {
      benchmark::DoNotOptimize(RunIntegerDots(kRounds / 16));
    });
  }
  Flops(state, OpsPerIntegerRound() * kRounds * pool.threads());
}
BENCHMARK(BM_IntegerDots)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The limit of everything that streams.
void BM_Read(benchmark::State& state) {
  ThreadPool pool(Threads());
  constexpr int64_t kChunk = 1 << 18;
  const std::vector<char> memory(size_t{1} << 30, 1);
  const auto chunks = static_cast<int64_t>(memory.size()) / kChunk;
  for (auto _ : state) {
    pool.ParallelFor(chunks, 4, [&](int64_t begin, int64_t end, int) {
      benchmark::DoNotOptimize(ReadAll(memory.data() + begin * kChunk, (end - begin) * kChunk));
    });
  }
  Bytes(state, static_cast<double>(memory.size()));
}
BENCHMARK(BM_Read)->Unit(benchmark::kMillisecond)->UseRealTime();

/// Arguments: rows, outputs, depth, format.
void BM_Linear(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t outputs = state.range(1);
  const int64_t depth = state.range(2);
  const auto format = static_cast<Format>(state.range(3));
  ThreadPool pool(Threads());
  const auto x = Values(rows * depth);
  // Several copies, so that a streamed weight comes from memory and not from a cache.
  const int64_t size = outputs * depth;
  const int64_t copies = rows > 16 ? 1 : std::max<int64_t>(1, (int64_t{1} << 30) / (size * 2));
  const auto weight = Bfloat16Values(copies * size * (format == Format::kFloat32 ? 2 : 1));
  std::vector<float> y(static_cast<size_t>(rows * outputs));
  int64_t copy = 0;
  for (auto _ : state) {
    const char* data = reinterpret_cast<const char*>(weight.data()) + copy * size * SizeOf(format);
    copy = (copy + 1) % copies;
    Linear({.x = x.data(),
            .x_stride = depth,
            .rows = rows,
            .weight = StoredMatrix{.data = data,
                                   .format = format,
                                   .rows = outputs,
                                   .columns = depth,
                                   .row_stride = depth},
            .y = y.data(),
            .y_stride = outputs},
           {.pool = pool});
    benchmark::ClobberMemory();
  }
  Bytes(state, static_cast<double>(size * SizeOf(format)));
  Flops(state, 2.0 * static_cast<double>(rows) * static_cast<double>(size));
}
constexpr int64_t kBf16 = static_cast<int64_t>(Format::kBfloat16);
constexpr int64_t kF16 = static_cast<int64_t>(Format::kFloat16);
BENCHMARK(BM_Linear)
    ->Args({1, 14336, 4096, kBf16})
    ->Args({1, 14336, 4096, kF16})
    ->Args({1, 4096, 14336, kBf16})
    ->Args({1, 4096, 4096, kBf16})
    ->Args({4, 14336, 4096, kBf16})
    ->Args({8, 14336, 4096, kBf16})
    ->Args({12, 14336, 4096, kBf16})
    ->Args({16, 14336, 4096, kBf16})
    ->Args({32, 14336, 4096, kBf16})
    ->Args({128, 14336, 4096, kBf16})
    ->Args({512, 14336, 4096, kBf16})
    ->Args({512, 14336, 4096, kF16})
    ->Args({512, 4096, 14336, kBf16})
    ->Args({1225, 256, 4096, kBf16})
    ->Args({1225, 4096, 256, kBf16})
    ->Args({1226, 1024, 1024, kBf16})
    ->Args({1226, 4096, 1024, kBf16})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// Arguments: rows, keys before them. The 7B decoder's heads.
void BM_PagedAttention(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t position = state.range(1);
  constexpr int64_t kHeads = 32;
  constexpr int64_t kKvHeads = 8;
  constexpr int64_t kDim = 128;
  constexpr int64_t kBlock = 16;
  const int64_t blocks = (position + rows + kBlock - 1) / kBlock;
  ThreadPool pool(Threads());
  const auto q = Values(rows * kHeads * kDim);
  const auto k = Values(blocks * kBlock * kKvHeads * kDim);
  const auto v = Values(blocks * kBlock * kKvHeads * kDim);
  std::vector<float> out(q.size());
  std::vector<int32_t> table;
  for (int64_t block = 0; block < blocks; ++block) table.push_back(static_cast<int32_t>(block));
  const AttentionSequence sequence{
      .first_row = 0, .row_count = rows, .position = position, .block_table = table.data()};
  for (auto _ : state) {
    PagedAttention({.q = q.data(),
                    .out = out.data(),
                    .heads = kHeads,
                    .kv_heads = kKvHeads,
                    .head_dim = kDim,
                    .k_cache = k.data(),
                    .v_cache = v.data(),
                    .block_size = kBlock,
                    .sequences = &sequence,
                    .sequence_count = 1},
                   {.pool = pool});
    benchmark::ClobberMemory();
  }
  const double pairs = static_cast<double>(rows) *
                       (static_cast<double>(position) + static_cast<double>(rows + 1) / 2);
  Bytes(state, 8.0 * static_cast<double>((position + rows) * kKvHeads * kDim));
  Flops(state, pairs * kHeads * kDim * 4);
}
BENCHMARK(BM_PagedAttention)
    ->Args({1, 1024})
    ->Args({1, 8192})
    ->Args({1289, 0})
    ->Args({512, 8192})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// Argument: rows of a view.
void BM_VisionAttention(benchmark::State& state) {
  const int64_t rows = state.range(0);
  constexpr int64_t kHeads = 16;
  constexpr int64_t kDim = 64;
  ThreadPool pool(Threads());
  const auto q = Values(rows * kHeads * kDim);
  const auto k = Values(rows * kHeads * kDim);
  const auto v = Values(rows * kHeads * kDim);
  std::vector<float> out(q.size());
  for (auto _ : state) {
    VisionAttention({.q = q.data(),
                     .k = k.data(),
                     .v = v.data(),
                     .out = out.data(),
                     .views = 1,
                     .rows = rows,
                     .heads = kHeads,
                     .head_dim = kDim},
                    {.pool = pool});
    benchmark::ClobberMemory();
  }
  Flops(state, static_cast<double>(rows) * static_cast<double>(rows) * kHeads * kDim * 4);
}
BENCHMARK(BM_VisionAttention)
    ->Arg(257)
    ->Arg(577)
    ->Arg(1226)
    ->Arg(1601)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(0);
  ThreadPool pool(Threads());
  const auto x = Values(rows * 4096);
  const auto weight = Bfloat16Values(4096);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    RmsNorm({.x = x.data(), .out = out.data(), .rows = rows, .columns = 4096},
            {.data = weight.data(), .format = Format::kBfloat16, .size = 4096}, {.pool = pool});
    benchmark::ClobberMemory();
  }
  Bytes(state, 8.0 * 4096 * static_cast<double>(rows));
}
BENCHMARK(BM_RmsNorm)->Arg(1)->Arg(1289)->Unit(benchmark::kMicrosecond)->UseRealTime();

void BM_SiluMul(benchmark::State& state) {
  const int64_t count = state.range(0);
  ThreadPool pool(Threads());
  const auto fresh = Values(count);
  const auto up = Values(count);
  auto gate = fresh;
  for (auto _ : state) {
    state.PauseTiming();  // its own result, over and over, would become subnormal and slow
    gate = fresh;
    state.ResumeTiming();
    SiluMul(gate.data(), up.data(), count, {.pool = pool});
    benchmark::ClobberMemory();
  }
  Bytes(state, 12.0 * static_cast<double>(count));
}
BENCHMARK(BM_SiluMul)->Arg(14336)->Arg(14336 * 512)->Unit(benchmark::kMicrosecond)->UseRealTime();

void BM_Gelu(benchmark::State& state) {
  ThreadPool pool(Threads());
  const auto fresh = Values(state.range(0));
  auto x = fresh;
  for (auto _ : state) {
    state.PauseTiming();
    x = fresh;
    state.ResumeTiming();
    Gelu(x.data(), state.range(0), {.pool = pool});
    benchmark::ClobberMemory();
  }
  Bytes(state, 8.0 * static_cast<double>(state.range(0)));
}
BENCHMARK(BM_Gelu)->Arg(4096 * 1225)->Unit(benchmark::kMicrosecond)->UseRealTime();

/// An empty loop: what it costs to put the threads to work.
void BM_ParallelFor(benchmark::State& state) {
  ThreadPool pool(Threads());
  for (auto _ : state) {
    pool.ParallelFor(2 * pool.threads(), 1, [](int64_t, int64_t, int) {});
  }
}
BENCHMARK(BM_ParallelFor)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace xcomposer::cpu

BENCHMARK_MAIN();
