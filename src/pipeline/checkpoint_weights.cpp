#include "pipeline/checkpoint_weights.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "ops/quantise.h"

namespace xcomposer {
namespace {

at::ScalarType ScalarTypeOf(const TensorEntry& entry) {
  switch (entry.dtype) {
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    case DType::kF32:
      return at::kFloat;
    case DType::kI32:
      return at::kInt;
    default:
      throw Error(ErrorKind::kCheckpoint,
                  StrCat(entry.name, " has type ", ToString(entry.dtype),
                         ", expected BF16, F16, F32 or I32"),
                  {{"tensor", entry.name}});
  }
}

/// A view into the mapping, which lives as long as the view does.
at::Tensor MappedView(const Checkpoint& checkpoint, const TensorEntry& entry) {
  const std::span<const std::byte> bytes = checkpoint.Bytes(entry);
  auto mapping = checkpoint.Mapping(entry);
  return at::from_blob(
      const_cast<std::byte*>(bytes.data()), entry.shape, entry.strides, [mapping](void*) {},
      at::TensorOptions().dtype(ScalarTypeOf(entry)));
}

/// A copy for tensors whose address no load instruction of their type may use.
at::Tensor RealignedCopy(const Checkpoint& checkpoint, const TensorEntry& entry) {
  const std::span<const std::byte> bytes = checkpoint.Bytes(entry);
  at::Tensor flat = at::empty({entry.byte_length / SizeOf(entry.dtype)},
                              at::TensorOptions().dtype(ScalarTypeOf(entry)));
  std::memcpy(flat.data_ptr(), bytes.data(), bytes.size());
  return flat.as_strided(entry.shape, entry.strides).contiguous();
}

}  // namespace

WeightHeaders HeadersOf(const Checkpoint& checkpoint) {
  WeightHeaders headers;
  for (const TensorEntry& entry : checkpoint.entries()) {
    headers[entry.name] = {ToString(entry.dtype), entry.shape};
  }
  return headers;
}

CheckpointWeights::CheckpointWeights(const Checkpoint& checkpoint, const Quantization& stored,
                                     const Quantization& wanted, WeightStorage storage,
                                     std::function<void(const LoadStep&)> progress)
    : WeightSource(stored),
      checkpoint_(checkpoint),
      wanted_(wanted),
      storage_(storage),
      progress_(std::move(progress)) {
  Require(!stored || !wanted, ErrorKind::kUsage, "the checkpoint is quantised already (",
          ToString(stored), "); it cannot be loaded as ", wanted.bits,
          " bits. Leave --weights out, or load the 16-bit checkpoint");
  for (const TensorEntry& entry : checkpoint_.entries()) {
    if (!IsIgnoredWeight(entry.name)) step_.bytes_total += entry.DenseBytes();
  }
}

std::optional<at::Tensor> CheckpointWeights::Read(const std::string& name) {
  const TensorEntry* entry = checkpoint_.Find(name);
  if (entry == nullptr) return std::nullopt;
  checkpoint_.Fetch(*entry);
  at::Tensor stored = entry->IsAligned() ? MappedView(checkpoint_, *entry).contiguous()
                                         : RealignedCopy(checkpoint_, *entry);
  Advance(*entry);
  return stored;
}

void CheckpointWeights::Advance(const TensorEntry& entry) {
  step_.bytes_done += entry.DenseBytes();
  step_.tensor = entry.name;
  if (progress_) progress_(step_);
}

at::Tensor CheckpointWeights::Load(const std::string& name, at::IntArrayRef shape) {
  const std::optional<at::Tensor> weight = Read(name);
  if (!weight) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat("the checkpoint has no tensor ", name, " of shape ", shape),
                {{"tensor", name}});
  }
  return StoredAs(*weight, storage_, name, counts_);
}

UnreadTensor CheckpointWeights::LoadUnread(const std::string& name, at::IntArrayRef shape) {
  const TensorEntry* entry = checkpoint_.Find(name);
  if (entry == nullptr || !entry->IsContiguous()) return WeightSource::LoadUnread(name, shape);
  Advance(*entry);
  return {ScalarTypeOf(*entry), entry->shape,
          [file = checkpoint_.Mapping(*entry), first = entry->offset](std::span<std::byte> out,
                                                                      size_t offset) {
            file->Read(first + static_cast<int64_t>(offset), out);
          }};
}

std::optional<at::Tensor> CheckpointWeights::LoadPart(const std::string& name, at::ScalarType type,
                                                      at::IntArrayRef shape) {
  std::optional<at::Tensor> part = Read(name);
  if (!part) return part;
  // A bias may have any of the float types; the other parts have one.
  const bool fits = part->scalar_type() == type || (shape.size() == 1 && type == at::kHalf &&
                                                    at::isFloatingType(part->scalar_type()));
  if (!fits || part->sizes() != shape) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat(name, " is ", part->scalar_type(), " ", part->sizes(), ", expected ", type,
                       " ", shape),
                {{"tensor", name}});
  }
  return part;
}

ops::LinearWeight CheckpointWeights::Prepared(ops::LinearWeight weight, const std::string& name,
                                              LinearRole role) {
  const Quantization wanted = role == LinearRole::kHead ? wanted_.Head() : wanted_;
  if (!wanted) return weight;
  return ops::Quantise(weight.data, static_cast<int>(wanted.bits), wanted.GroupOf(weight.inputs()),
                       name)
      .weight;
}

}  // namespace xcomposer
