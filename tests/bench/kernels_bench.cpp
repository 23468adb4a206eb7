#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "base/large_pages.h"
#include "bench/beside_limit.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/limits.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"

// Speed of the kernels at the sizes of the 7B decoder and of the vision tower. Linear layers and
// attention are timed in turns with the machine's limit (BesideLimit): G/s counts weights, or keys
// and values, once, or a product and a sum as two, whichever bounds the case; best% and median% are
// the shares of the limit. XCOMPOSER_BENCH_THREADS sets the count of threads.
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

/// A loop of limits.h on registers, on all threads.
void RunLimit(benchmark::State& state, float (*run)(int64_t rounds), double per_round) {
  ThreadPool pool(Threads());
  constexpr int64_t kRounds = 1 << 20;
  for (auto _ : state) {
    pool.ParallelFor(16 * pool.threads(), 1,
                     [run](int64_t, int64_t, int) { benchmark::DoNotOptimize(run(kRounds / 16)); });
  }
  Flops(state, per_round * kRounds * pool.threads());
}

/// The limit of everything that multiplies.
void BM_Fma(benchmark::State& state) { RunLimit(state, &RunFmas, FlopsPerRound()); }
BENCHMARK(BM_Fma)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The limit of everything that multiplies in 8 bits.
void BM_IntegerDots(benchmark::State& state) {
  RunLimit(state, &RunIntegerDots, OpsPerIntegerRound());
}
BENCHMARK(BM_IntegerDots)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The limit of everything that multiplies bfloat16.
void BM_BfloatDots(benchmark::State& state) {
  RunLimit(state, &RunBfloatDots, OpsPerBfloatRound());
}
BENCHMARK(BM_BfloatDots)->Unit(benchmark::kMillisecond)->UseRealTime();

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

/// Copies of a weight of `bytes`, so that a streamed one comes from memory and not from a cache.
int64_t Copies(int64_t bytes) { return std::max<int64_t>(1, (int64_t{1} << 29) / bytes); }

/// What bounds `rows` rows: reading the weight or multiplying with it. `balance`: operations that
/// the machine does while it reads one byte.
struct Bound {
  Bound(int64_t rows, double weights, double bytes, Limit multiply, double balance) {
    const double operations = 2.0 * static_cast<double>(rows) * weights;
    const bool read = operations < bytes * balance;
    limit = read ? Limit::kRead : multiply;
    work = read ? bytes : operations;
  }
  Limit limit;
  double work;
};

// Operations per byte read, roughly, of the machines that performance was tuned on: for choosing
// the limit that a case is held against.
constexpr double kFlopsPerByte = 5;
constexpr double kOpsPerByte = 9;

/// Linear of `rows` rows with one copy of a weight (N, K) after the other, beside its limit.
/// `weight(copy)` gives one of `copies`.
template <typename WeightOf>
void RunLinear(benchmark::State& state, ThreadPool& pool, const Bound& bound, int64_t copies,
               const WeightOf& weight) {
  const int64_t rows = state.range(0);
  const int64_t outputs = state.range(1);
  const int64_t depth = state.range(2);
  const auto x = Values(rows * depth);
  std::vector<float> y(static_cast<size_t>(rows * outputs));
  BesideLimit beside(state, pool, bound.limit, bound.work);
  int64_t copy = 0;
  for (auto _ : state) {
    const LinearParams params{.x = x.data(),
                              .x_stride = depth,
                              .rows = rows,
                              .weight = weight(copy),
                              .y = y.data(),
                              .y_stride = outputs};
    copy = (copy + 1) % copies;
    beside.Run([&] { Linear(params, {.pool = pool}); });
    benchmark::ClobberMemory();
  }
}

/// Arguments: rows, outputs, depth, format.
void BM_Linear(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t outputs = state.range(1);
  const int64_t depth = state.range(2);
  const auto format = static_cast<Format>(state.range(3));
  ThreadPool pool(Threads());
  const int64_t size = outputs * depth;
  const int64_t copies = rows > 64 ? 1 : Copies(size * 2);
  const auto weight = Bfloat16Values(copies * size * (format == Format::kFloat32 ? 2 : 1));
  const auto weights = static_cast<double>(size);
  const Bound bound(rows, weights, weights * static_cast<double>(SizeOf(format)), Limit::kFma,
                    kFlopsPerByte);
  RunLinear(state, pool, bound, copies, [&](int64_t copy) {
    const char* data = reinterpret_cast<const char*>(weight.data()) + copy * size * SizeOf(format);
    return StoredMatrix{
        .data = data, .format = format, .rows = outputs, .columns = depth, .row_stride = depth};
  });
}
constexpr int64_t kBf16 = static_cast<int64_t>(Format::kBfloat16);
constexpr int64_t kF16 = static_cast<int64_t>(Format::kFloat16);
const std::vector<int64_t> kRows = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512};
BENCHMARK(BM_Linear)
    ->ArgsProduct({kRows, {14336}, {4096}, {kBf16, kF16}})
    ->ArgsProduct({kRows, {4096}, {14336}, {kBf16, kF16}})
    ->Args({1, 4096, 4096, kBf16})
    ->Args({1, 92544, 4096, kBf16})
    ->Args({512, 6144, 4096, kBf16})
    ->Args({1225, 256, 4096, kBf16})
    ->Args({1225, 4096, 256, kBf16})
    ->Args({1226, 1024, 1024, kBf16})
    ->Args({1226, 4096, 1024, kBf16})
    ->Args({1226, 1024, 4096, kBf16})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

/// Numbers as trained weights are: about normal.
std::vector<uint16_t> NearNormalValues(int64_t size) {
  std::vector<uint16_t> values(static_cast<size_t>(size));
  uint32_t state = 1;
  for (uint16_t& value : values) {
    float sum = 0;
    for (int i = 0; i < 6; ++i) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<float>(state >> 8) / (1 << 24) - 0.5f;
    }
    value = static_cast<uint16_t>(std::bit_cast<uint32_t>(0.03f * sum) >> 16);
  }
  return values;
}

/// bfloat16 in 12 bits. Arguments: rows, outputs, depth.
void BM_LinearBf12(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t outputs = state.range(1);
  const int64_t depth = state.range(2);
  ThreadPool pool(Threads());
  const auto dense = NearNormalValues(outputs * depth);
  const int64_t words = outputs * depth * 3 / 8;
  const int64_t copies = rows > 64 ? 1 : Copies(4 * words);
  // In large pages, as the engine has them.
  const auto size = static_cast<size_t>(copies * words);
  const auto all_words = std::make_unique_for_overwrite<uint32_t[]>(size);
  AskForLargePages(all_words.get(), size * sizeof(uint32_t));
  std::vector<float> scales(static_cast<size_t>(outputs));
  std::optional<std::vector<int32_t>> outliers;
  for (int64_t copy = 0; copy < copies; ++copy) {
    outliers = PackBf12({.data = dense.data(),
                         .format = Format::kBfloat16,
                         .rows = outputs,
                         .columns = depth,
                         .row_stride = depth},
                        {.words = all_words.get() + copy * words, .scales = scales.data()},
                        {.pool = pool});
  }
  const Bound bound(rows, static_cast<double>(outputs * depth), static_cast<double>(4 * words),
                    Limit::kFma, kFlopsPerByte);
  RunLinear(state, pool, bound, copies, [&](int64_t copy) {
    return Bf12Matrix{.words = all_words.get() + copy * words,
                      .scales = scales.data(),
                      .outliers = outliers->data(),
                      .rows = outputs,
                      .columns = depth};
  });
}
BENCHMARK(BM_LinearBf12)
    ->ArgsProduct({kRows, {14336}, {4096}})
    ->ArgsProduct({kRows, {4096}, {14336}})
    ->Args({1, 92544, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

/// Arguments: rows, outputs, depth, packing, group.
void BM_LinearPacked(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t outputs = state.range(1);
  const int64_t depth = state.range(2);
  PackedMatrix matrix{.packing = static_cast<Packing>(state.range(3)),
                      .rows = outputs,
                      .columns = depth,
                      .group = state.range(4)};
  const bool integers = TakesIntegers(matrix.packing);
  ThreadPool pool(Threads());
  const int64_t words = outputs * depth * BitsOf(matrix.packing) / 32;
  const int64_t zero_words = matrix.groups() * outputs * BitsOf(matrix.packing) / 32;
  const int64_t scales = matrix.groups() * outputs;
  const int64_t bytes = 4 * words + 4 * zero_words + 2 * scales;
  const int64_t copies = rows > 64 ? 1 : Copies(bytes);
  std::vector<uint32_t> all_words(static_cast<size_t>(copies * words));
  for (size_t i = 0; i < all_words.size(); ++i) {
    all_words[i] = static_cast<uint32_t>(i) * 2654435761u;
  }
  const std::vector<uint32_t> all_zeros(static_cast<size_t>(copies * zero_words), 0x77777777u);
  const std::vector<uint16_t> all_scales(static_cast<size_t>(copies * scales), 0x2000);
  const Bound bound(rows, static_cast<double>(outputs * depth), static_cast<double>(bytes),
                    integers ? Limit::kInteger : Limit::kFma,
                    integers ? kOpsPerByte : kFlopsPerByte);
  RunLinear(state, pool, bound, copies, [&](int64_t copy) {
    matrix.words = all_words.data() + copy * words;
    matrix.zeros = all_zeros.data() + copy * zero_words;
    matrix.scales = all_scales.data() + copy * scales;
    return matrix;
  });
}
constexpr int64_t kGptq4 = static_cast<int64_t>(Packing::kGptq4);
constexpr int64_t kGptq8 = static_cast<int64_t>(Packing::kGptq8);
constexpr int64_t kAwq4 = static_cast<int64_t>(Packing::kAwq4);
constexpr int64_t kInt4 = static_cast<int64_t>(Packing::kInt4);
constexpr int64_t kInt8 = static_cast<int64_t>(Packing::kInt8);
BENCHMARK(BM_LinearPacked)
    ->ArgsProduct({kRows, {14336}, {4096}, {kInt8}, {128}})
    ->ArgsProduct({kRows, {14336}, {4096}, {kInt4}, {32}})
    ->ArgsProduct({{1, 8, 512}, {4096}, {14336}, {kInt8}, {128}})
    ->ArgsProduct({{1, 8, 512}, {4096}, {14336}, {kInt4}, {32}})
    ->ArgsProduct({{1, 4, 16, 512}, {14336}, {4096}, {kGptq8, kGptq4, kAwq4}, {128}})
    ->ArgsProduct({{1}, {2048, 6144, 8192}, {4096}, {kInt4}, {32}})
    ->ArgsProduct({{1}, {2048, 6144, 8192}, {4096}, {kInt8}, {128}})
    ->ArgsProduct({{1, 8}, {92544}, {4096}, {kInt8}, {128}})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

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
  const double pairs = static_cast<double>(rows) *
                       (static_cast<double>(position) + static_cast<double>(rows + 1) / 2);
  const double bytes = 8.0 * static_cast<double>((position + rows) * kKvHeads * kDim);
  BesideLimit beside(state, pool, rows == 1 ? Limit::kRead : Limit::kFma,
                     rows == 1 ? bytes : pairs * kHeads * kDim * 4);
  for (auto _ : state) {
    beside.Run([&] {
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
    });
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_PagedAttention)
    ->Args({1, 1024})
    ->Args({1, 8192})
    ->Args({1, 32768})
    ->Args({1289, 0})
    ->Args({512, 8192})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

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
  BesideLimit beside(state, pool, Limit::kFma,
                     static_cast<double>(rows) * static_cast<double>(rows) * kHeads * kDim * 4);
  for (auto _ : state) {
    beside.Run([&] {
      VisionAttention({.q = q.data(),
                       .k = k.data(),
                       .v = v.data(),
                       .out = out.data(),
                       .views = 1,
                       .rows = rows,
                       .heads = kHeads,
                       .head_dim = kDim},
                      {.pool = pool});
    });
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_VisionAttention)
    ->Arg(257)
    ->Arg(577)
    ->Arg(1226)
    ->Arg(1601)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

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
