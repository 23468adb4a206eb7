#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/number.h"

namespace xcomposer::cpu {

/// An array between two zones of a known pattern. The destructor fails the test if a kernel wrote
/// there; with the address sanitizer, whoever reads or writes there is stopped at once.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t size, T fill = T{}) : size_(size), memory_(size + 2 * kZone) {
    std::memset(memory_.data(), kPattern, memory_.size() * sizeof(T));
    for (int64_t i = 0; i < size; ++i) (*this)[i] = fill;
    ForbidZones();
  }
  ~Guarded() {
    AllowZones();
    for (int64_t i = 0; i < kZone; ++i) {
      EXPECT_TRUE(Intact(memory_[i])) << "written " << kZone - i << " before the start";
      EXPECT_TRUE(Intact(memory_[kZone + size_ + i])) << "written " << i + 1 << " past the end";
    }
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return memory_.data() + kZone; }
  const T* data() const { return memory_.data() + kZone; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return memory_[static_cast<size_t>(kZone + i)]; }
  const T& operator[](int64_t i) const { return memory_[static_cast<size_t>(kZone + i)]; }

 private:
  static constexpr int64_t kZone = 67;  // odd, so that the data is not aligned
  static constexpr int kPattern = 0xa5;

  static bool Intact(const T& value) {
    T pattern;
    std::memset(&pattern, kPattern, sizeof(T));
    return std::memcmp(&pattern, &value, sizeof(T)) == 0;
  }

#if defined(__SANITIZE_ADDRESS__)
  void ForbidZones() {
    __asan_poison_memory_region(memory_.data(), kZone * sizeof(T));
    __asan_poison_memory_region(data() + size_, kZone * sizeof(T));
  }
  void AllowZones() { __asan_unpoison_memory_region(memory_.data(), memory_.size() * sizeof(T)); }
#else
  void ForbidZones() {}
  void AllowZones() {}
#endif

  int64_t size_;
  std::vector<T> memory_;
};

/// Numbers that are the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  uint64_t Bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  /// In (-1, 1).
  float Value() {
    return static_cast<float>(static_cast<double>(Bits() >> 11) / 4503599627370496.0 - 1.0);
  }
  void Fill(Guarded<float>& values, float scale = 1.0f) {
    for (int64_t i = 0; i < values.size(); ++i) values[i] = scale * Value();
  }

 private:
  uint64_t state_;
};

/// Random stored numbers of one format, and what each of them is worth.
class Stored {
 public:
  Stored(int64_t size, Format format, Random& random)
      : format_(format), bytes_(size * SizeOf(format)), values_(static_cast<size_t>(size)) {
    for (int64_t i = 0; i < size; ++i) Put(i, random);
  }

  const void* data() const { return bytes_.data(); }
  Format format() const { return format_; }
  double operator[](int64_t i) const { return values_[static_cast<size_t>(i)]; }
  StoredVector Vector() const {
    return {.data = data(), .format = format_, .size = static_cast<int64_t>(values_.size())};
  }

 private:
  void Put(int64_t i, Random& random) {
    if (format_ == Format::kFloat16) {
      // Every exponent up to that of numbers below two, subnormals included.
      const auto bits =
          static_cast<uint16_t>((random.Bits() & 0x83ff) | (random.Bits() % 16 << 10));
      const int exponent = (bits >> 10) & 31;
      const int fraction = bits & 0x3ff;
      const double magnitude =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      values_[static_cast<size_t>(i)] = (bits & 0x8000) != 0 ? -magnitude : magnitude;
      std::memcpy(bytes_.data() + 2 * i, &bits, 2);
      return;
    }
    float value = random.Value();
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (format_ == Format::kBfloat16) {
      bits &= 0xffff0000u;
      std::memcpy(&value, &bits, 4);
      const auto high = static_cast<uint16_t>(bits >> 16);
      std::memcpy(bytes_.data() + 2 * i, &high, 2);
    } else {
      std::memcpy(bytes_.data() + 4 * i, &bits, 4);
    }
    values_[static_cast<size_t>(i)] = value;
  }

  Format format_;
  Guarded<unsigned char> bytes_;
  std::vector<double> values_;
};

/// Every instruction set that this machine can run, so that each is tested and not only the best.
inline std::vector<Isa> RunnableIsas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAllIsas) {
    if (MayRun(isa)) isas.push_back(isa);
  }
  return isas;
}

inline const char* ToString(Format format) {
  return format == Format::kFloat32    ? "float32"
         : format == Format::kBfloat16 ? "bfloat16"
                                       : "float16";
}

inline constexpr double kUnit = 1.0 / (1 << 24);  // half a unit in the last place of 1, in float

/// Bound of the relative growth of n roundings, each of at most kUnit.
inline double Gamma(int64_t n) {
  const double nu = static_cast<double>(n) * kUnit;
  return nu / (1.0 - nu);
}

}  // namespace xcomposer::cpu
