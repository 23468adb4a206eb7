#include "config/kv_type.h"

namespace xcomposer {
namespace {

constexpr int64_t kGroup = 32;
constexpr int64_t kScaleBytes = 2;

}  // namespace

const char* ToString(KvType type) {
  switch (type) {
    case KvType::kFloat32:
      return "fp32";
    case KvType::k16Bit:
      return "16-bit";
    case KvType::kInt8:
      return "int8";
  }
  return "fp32";
}

int64_t KvHeadBytes(KvType type, int64_t head_dim) {
  switch (type) {
    case KvType::kFloat32:
      return 4 * head_dim;
    case KvType::k16Bit:
      return 2 * head_dim;
    case KvType::kInt8:
      return (head_dim + kGroup - 1) / kGroup * (kGroup + kScaleBytes);
  }
  return 4 * head_dim;
}

int64_t KvBytesPerPosition(const ModelConfig& config, KvType type) {
  return 2 * config.kv_heads * KvHeadBytes(type, config.head_dim());
}

}  // namespace xcomposer
