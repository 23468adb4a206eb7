#include "measure/machine_limits.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>

#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/limits.h"

namespace xcomposer::measure {
namespace {

constexpr int kTries = 3;
constexpr int64_t kChunk = int64_t{1} << 20;  // bytes that a thread takes at a time
constexpr int64_t kRounds = int64_t{1} << 21;
constexpr int64_t kPieces = 16;  // of the rounds, per thread: who is interrupted delays no more

/// Seconds of the fastest try.
template <typename Work>
double Fastest(const Work& work) {
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (i == 0 || time.count() < best) best = time.count();
  }
  return std::max(best, 1e-9);
}

std::string InRegisters(const std::string& name) {
  return name.empty() ? "" : name + " in registers";
}

}  // namespace

CpuLimits::CpuLimits(int threads, int64_t read_bytes)
    : pool_(threads),
      bytes_(std::max(read_bytes / kChunk, int64_t{1}) * kChunk),
      memory_(new char[static_cast<size_t>(bytes_)]) {
  // Each thread touches its share first, so that on machines with several memories it lies near.
  pool_.ParallelFor(bytes_ / kChunk, 1, [this](int64_t begin, int64_t end, int) {
    std::memset(memory_.get() + begin * kChunk, 1, static_cast<size_t>((end - begin) * kChunk));
  });
}

CpuRates CpuLimits::Measure() {
  CpuRates rates;
  for (const int streams : cpu::kReadStreams) rates.read = std::max(rates.read, ReadRate(streams));
  rates.fma = RegisterRate(&cpu::RunFmas, cpu::FlopsPerRound());
  if (!Int8DotDetail().empty()) {
    rates.int8_dot = RegisterRate(&cpu::RunIntegerDots, cpu::OpsPerIntegerRound());
  }
  if (!Bf16DotDetail().empty()) {
    rates.bf16_dot = RegisterRate(&cpu::RunBfloatDots, cpu::OpsPerBfloatRound());
  }
  return rates;
}

double CpuLimits::ReadRate(int streams) {
  const double seconds = Fastest([&] {
    pool_.ParallelFor(bytes_ / kChunk, 1, [&](int64_t begin, int64_t end, int) {
      Keep(cpu::ReadAll(memory_.get() + begin * kChunk, (end - begin) * kChunk, streams));
    });
  });
  return static_cast<double>(bytes_) / seconds;
}

double CpuLimits::RegisterRate(float (*run)(int64_t rounds), double per_round) {
  const double seconds = Fastest([&] {
    pool_.ParallelFor(kPieces * pool_.threads(), 1, [this, run](int64_t, int64_t, int) {
      Keep(std::bit_cast<uint32_t>(run(kRounds / kPieces)));
    });
  });
  return per_round * static_cast<double>(kRounds * pool_.threads()) / seconds;
}

std::string CpuLimits::FmaDetail() {
  if (cpu::BestIsa() >= cpu::Isa::kAmx) return "tdpbf16ps in registers, three for a product";
  if (cpu::BestIsa() >= cpu::Isa::kAvx512) return "512-bit fused multiply-adds in registers";
  if (cpu::BestIsa() >= cpu::Isa::kAvx2) return "256-bit fused multiply-adds in registers";
  return "products and sums in registers";
}

std::string CpuLimits::Int8DotDetail() { return InRegisters(cpu::IntegerDotName()); }

std::string CpuLimits::Bf16DotDetail() { return InRegisters(cpu::BfloatDotName()); }

int64_t LastLevelCache() {
  const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index";
  int64_t bytes = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file(folder + std::to_string(index) + "/size");
    int64_t size = 0;
    char unit = 0;
    if (!(file >> size)) break;
    file >> unit;
    const int64_t scale = unit == 'K' ? 1 << 10 : unit == 'M' ? 1 << 20 : 1;
    bytes = std::max(bytes, size * scale);
  }
  return bytes;
}

}  // namespace xcomposer::measure
