#include "support/emulator/products.h"

#include <algorithm>
#include <cstring>

namespace xcomposer::emulator {
namespace {

constexpr size_t kBooked = 1024;
constexpr uint32_t kUnknown = 0xFFFFFFFF;  // NaN

uint32_t Bits(uint64_t descriptor, int first, int count) {
  return static_cast<uint32_t>(descriptor >> first & ((uint64_t{1} << count) - 1));
}

}  // namespace

MatrixLayout::MatrixLayout(uint64_t descriptor, const Access& access)
    : start_(Bits(descriptor, 0, 14) << 4),
      leading_(Bits(descriptor, 16, 14) << 4),
      stride_(Bits(descriptor, 32, 14) << 4) {
  const auto refuse = [&access](const char* what) {
    throw Fault(std::string("matrix descriptor ") + what + ", by " + Describe(access));
  };
  if (Bits(descriptor, 62, 2) != 1) refuse("without the 128-byte swizzle");
  // The pattern begins on 1,024 bytes where the base offset is 0; a matrix may begin in its first
  // row.
  if (Bits(descriptor, 49, 3) != 0 || start_ % 1024 >= 128) {
    refuse("whose swizzle does not begin on 1,024 bytes");
  }
}

// Swizzle<3,4,3> o ((8,m),(T,2k)):((8T,SBO),(1,T)), T = 8
uint32_t MatrixLayout::AlongK(int line, int part) const {
  const auto row = static_cast<uint32_t>(line);
  return Swizzled(start_ + row % 8 * 128 + row / 8 * stride_ + static_cast<uint32_t>(part) * 16);
}

// Swizzle<3,4,3> o ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO))
uint32_t MatrixLayout::AlongRows(int line, int part) const {
  const auto row = static_cast<uint32_t>(line);
  const auto eight = static_cast<uint32_t>(part);
  return Swizzled(start_ + row % 8 * 128 + row / 8 * stride_ + eight % 8 * 16 +
                  eight / 8 * leading_);
}

void Products::Reset(int threads, size_t last_address) {
  threads_.assign(static_cast<size_t>(threads), {});
  reads_.assign(last_address / kBooked + 1, {});
}

void Products::CheckFenced(int thread, const Access& access) const {
  if (!Of(thread).fenced) {
    throw Fault("product of a warpgroup by " + Describe(access) +
                " without WarpgroupFence after its registers were used");
  }
}

const float* Products::Sums(int thread, const float* d) const {
  for (const Sum& sum : Of(thread).sums) {
    if (sum.d == d) return sum.values.data();
  }
  return d;
}

void Products::Begin(int thread, float* d, const std::vector<float>& values) {
  Thread& t = Of(thread);
  const auto same = [d](const Sum& sum) { return sum.d == d; };
  const auto found = std::find_if(t.sums.begin(), t.sums.end(), same);
  if (found != t.sums.end()) {
    found->values = values;
    found->group = t.open;
    return;
  }
  t.sums.push_back({d, values, t.open});
  std::memset(d, 0xFF, values.size() * sizeof(float));
}

void Products::UseRegisters(int thread, const uint32_t (&a)[4]) {
  Thread& t = Of(thread);
  t.factors.push_back({a, {a[0], a[1], a[2], a[3]}, t.open});
}

void Products::BookRead(int lane, uint32_t address) {
  std::vector<Read>& reads = reads_[address / kBooked];
  const uint64_t group = Of(lane).open;
  for (Read& read : reads) {
    if (read.lane != lane || read.moment != Clocks::kNever) continue;
    read.group = std::max(read.group, group);
    return;
  }
  reads.push_back({lane, group, Clocks::kNever});
}

void Products::Wait(int thread, int pending, const Access& access) {
  Thread& t = Of(thread);
  t.fenced = false;
  const auto ended = [&t, pending](uint64_t group) {
    return group + static_cast<uint64_t>(pending) < t.open;
  };
  for (const Factor& factor : t.factors) {
    if (ended(factor.group) && std::memcmp(factor.a, factor.values.data(), 16) != 0) {
      throw Fault("registers changed before " + Describe(access) +
                  " had waited for the product that they are a factor of");
    }
  }
  std::erase_if(t.factors, [&ended](const Factor& factor) { return ended(factor.group); });
  for (const Sum& sum : t.sums) {
    if (!ended(sum.group)) continue;
    for (size_t i = 0; i < sum.values.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, sum.d + i, sizeof(bits));
      if (bits != kUnknown) {
        throw Fault("sums changed before " + Describe(access) + " had waited for their product");
      }
      sum.d[i] = sum.values[i];
    }
  }
  std::erase_if(t.sums, [&ended](const Sum& sum) { return ended(sum.group); });
  if (thread % 32 != 0) return;
  for (std::vector<Read>& reads : reads_) {
    for (Read& read : reads) {
      if (read.lane == thread && read.moment == Clocks::kNever && ended(read.group)) {
        read.moment = clocks_.Now(thread);
      }
    }
  }
}

void Products::CheckWrite(uint32_t address, const Access& access) {
  std::vector<Read>& reads = reads_[address / kBooked];
  for (const Read& read : reads) {
    const bool over = read.moment != Clocks::kNever;
    const bool ordered =
        over && (read.lane == access.thread ||
                 clocks_.Of(access.thread).seen[static_cast<size_t>(read.lane)] >= read.moment);
    if (!ordered) {
      throw Fault("race in shared memory: write by " + Describe(access) +
                  " of what a product of warp " + std::to_string(read.lane / 32) +
                  " may still read");
    }
  }
  reads.clear();
}

void Products::CheckEnd(int thread, const Access& access) const {
  if (!Of(thread).sums.empty()) {
    throw Fault("end before a product was waited for: " + Describe(access));
  }
}

}  // namespace xcomposer::emulator
