#pragma once

#include <cstring>

#include "kernels/cpu/kv_format.h"
#include "kernels/guarded.h"

namespace xcomposer::cpu {

/// Heads in a cache, and what their numbers are worth by the format's description.
class KeptHeads {
 public:
  KeptHeads(int64_t heads, int64_t dim, KvFormat format, uint8_t fill = 0)
      : format_(format), dim_(dim), memory_((heads * KvHeadBytes(format, dim) + 3) / 4) {
    std::memset(memory_.data(), fill, static_cast<size_t>(memory_.size()) * sizeof(float));
  }

  void* head(int64_t i) {
    return reinterpret_cast<uint8_t*>(memory_.data()) + i * KvHeadBytes(format_, dim_);
  }
  const void* data() const { return memory_.data(); }
  void* data() { return memory_.data(); }

  void Keep(int64_t head_index, const float* numbers) {
    if (format_ == KvFormat::kInt8) return RoundKvHead(numbers, dim_, head(head_index));
    std::memcpy(head(head_index), numbers, static_cast<size_t>(dim_) * sizeof(float));
  }

  float Scale(int64_t head_index, int64_t d) const {
    uint16_t upper;
    std::memcpy(&upper, Place(head_index) + (dim_ + 31) / 32 * 32 + d / 32 * 2, sizeof(upper));
    const uint32_t bits = static_cast<uint32_t>(upper) << 16;
    float scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    return scale;
  }

  float Number(int64_t head_index, int64_t d) const {
    if (format_ == KvFormat::kInt8) {
      return Scale(head_index, d) * static_cast<float>(static_cast<int8_t>(Place(head_index)[d]));
    }
    float number;
    std::memcpy(&number, Place(head_index) + d * 4, sizeof(number));
    return number;
  }

 private:
  const uint8_t* Place(int64_t head_index) const {
    return reinterpret_cast<const uint8_t*>(memory_.data()) +
           head_index * KvHeadBytes(format_, dim_);
  }

  KvFormat format_;
  int64_t dim_;
  Guarded<float> memory_;  // caches lie as floats do
};

inline std::string ToString(KvFormat format) {
  return format == KvFormat::kInt8 ? "int8" : "float32";
}

}  // namespace xcomposer::cpu
