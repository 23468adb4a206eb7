#include "model/kv_cache.h"

#include <ATen/ops/empty.h>

#include "base/check.h"
#include "base/checked_math.h"
#include "ops/ops.h"

namespace xcomposer {

namespace {

KvType TypeOf(const at::TensorOptions& options) {
  switch (c10::typeMetaToScalarType(options.dtype())) {
    case at::kFloat:
      return KvType::kFloat32;
    case at::kHalf:
    case at::kBFloat16:
      return KvType::k16Bit;
    case at::kChar:
      return KvType::kInt8;
    default:
      throw Error(ErrorKind::kInternal, StrCat("keys and values of type ", options.dtype().name()));
  }
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t layers, KvShape shape,
                 const at::TensorOptions& options)
    : shape_(shape) {
  Require(shape.blocks > 0 && shape.block_size > 0, ErrorKind::kUsage, "a KV pool of ",
          shape.blocks, " blocks of ", shape.block_size, " positions cannot hold anything");
  const KvType type = TypeOf(options);
  const auto positions = CheckedMul(shape.blocks, shape.block_size);
  const auto bytes =
      positions ? CheckedMul(*positions, layers * KvBytesPerPosition(config, type)) : std::nullopt;
  Require(positions && *positions <= INT32_MAX && bytes, ErrorKind::kCapacity, "a KV pool of ",
          shape.blocks, " blocks of ", shape.block_size,
          " positions is beyond what can be addressed");
  const int64_t width =
      KvHeadBytes(type, config.head_dim()) / static_cast<int64_t>(options.dtype().itemsize());
  try {
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (auto* list : {&keys_, &values_}) {
        list->push_back(
            at::empty({shape.blocks, shape.block_size, config.kv_heads, width}, options));
      }
    }
  } catch (
      const std::exception&) {  // c10::Error or bad_alloc: out of memory is all that can happen
    throw Error(ErrorKind::kCapacity,
                StrCat("no memory for ", *positions, " KV positions of ", layers, " layers: ",
                       *bytes, " bytes; ask for fewer positions or a shorter context"));
  }
}

int64_t KvCache::bytes() const {
  size_t bytes = 0;
  for (const auto* list : {&keys_, &values_}) {
    for (const at::Tensor& tensor : *list) bytes += tensor.nbytes();
  }
  return static_cast<int64_t>(bytes);
}

void KvCache::Copy(const std::vector<BlockCopy>& copies) {
  if (copies.empty()) return;
  std::vector<int64_t> from;
  std::vector<int64_t> to;
  for (const BlockCopy& copy : copies) {
    from.push_back(copy.from);
    to.push_back(copy.to);
  }
  for (at::Tensor& keys : keys_) ops::CopyBlocks_(keys, from, to);
  for (at::Tensor& values : values_) ops::CopyBlocks_(values, from, to);
}

}  // namespace xcomposer
