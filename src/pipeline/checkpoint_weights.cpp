#include "pipeline/checkpoint_weights.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "ops/bf12.h"
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

/// Unpacks what is asked for, four rows at a time: any part of them may be.
UnreadTensor UnreadBf12(ops::LinearWeight packed) {
  const int64_t outputs = packed.outputs();
  const int64_t inputs = packed.inputs();
  return {at::kBFloat16,
          {outputs, inputs},
          [packed = std::move(packed), inputs](std::span<std::byte> out, size_t offset) {
            const size_t panel_bytes = static_cast<size_t>(kBf12Outputs * inputs) * 2;
            while (!out.empty()) {
              const size_t panel = offset / panel_bytes;
              const size_t within = offset % panel_bytes;
              const at::Tensor rows =
                  ops::UnpackBf12(packed, static_cast<int64_t>(panel) * kBf12Outputs, kBf12Outputs);
              const size_t count = std::min(out.size(), panel_bytes - within);
              std::memcpy(out.data(), static_cast<const std::byte*>(rows.const_data_ptr()) + within,
                          count);
              out = out.subspan(count);
              offset += count;
            }
          }};
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
  std::optional<at::Tensor> weight = Read(name);
  if (!weight) {
    if (const auto packed = ReadBf12(name, shape)) weight = ops::UnpackBf12(*packed);
  }
  if (!weight) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat("the checkpoint has no tensor ", name, " of shape ", shape),
                {{"tensor", name}});
  }
  return StoredAs(*weight, storage_, name, counts_);
}

UnreadTensor CheckpointWeights::LoadUnread(const std::string& name, at::IntArrayRef shape) {
  const TensorEntry* entry = checkpoint_.Find(name);
  if (entry == nullptr) {
    if (auto packed = ReadBf12(name, shape)) return UnreadBf12(*std::move(packed));
  }
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

std::optional<ops::LinearWeight> CheckpointWeights::LoadBf12(const std::string& weight,
                                                             int64_t outputs, int64_t inputs) {
  const bool is_kept = storage_ == WeightStorage::kAsStored || storage_ == WeightStorage::kBFloat16;
  if (wanted_ || !is_kept) return std::nullopt;
  return ReadBf12(weight, {outputs, inputs});
}

std::optional<ops::LinearWeight> CheckpointWeights::ReadBf12(const std::string& weight,
                                                             at::IntArrayRef shape) {
  if (!weight.ends_with(".weight")) return std::nullopt;
  const Bf12Names names = Bf12NamesOf(weight);
  if (checkpoint_.Find(names.words) == nullptr) return std::nullopt;
  const int64_t outputs = shape.at(0);
  const int64_t inputs = shape.at(1);
  Require(outputs % kBf12Outputs == 0 && inputs % kBf12Inputs == 0, ErrorKind::kCheckpoint, weight,
          " has shape ", shape, "; in 12 bits it has a multiple of ", kBf12Outputs,
          " outputs and of ", kBf12Inputs, " inputs");
  ops::LinearWeight packed;
  packed.packing = ops::WeightPacking::kBf12;
  packed.data = TakePart(names.words, at::kInt,
                         {outputs / kBf12Outputs, inputs / kBf12Inputs, kBf12BlockWords});
  packed.scales = TakePart(names.scales, at::kFloat, {outputs});
  const TensorEntry* const outliers = checkpoint_.Find(names.outliers);
  const int64_t words = outliers == nullptr || outliers->shape.size() != 1 ? 0 : outliers->shape[0];
  packed.zeros = TakePart(names.outliers, at::kInt, {std::max(words, outputs / kBf12Outputs + 1)});
  return ops::CheckedBf12(std::move(packed), weight);
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
