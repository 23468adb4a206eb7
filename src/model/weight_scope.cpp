#include "model/weight_scope.h"

#include <ATen/ops/cat.h>

#include <cstring>

#include "base/check.h"
#include "ops/bf12.h"

namespace xcomposer {
namespace {

/// Input i must belong to group i / group: the kernels read no other order.
void RequireAscendingGroups(const at::Tensor& g_idx, int64_t group, const std::string& name) {
  if (g_idx.is_meta()) return;
  const int32_t* groups = g_idx.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < g_idx.numel(); ++i) {
    if (groups[i] == i / group) continue;
    throw Error(ErrorKind::kCheckpoint,
                StrCat(name, " puts input ", i, " into group ", groups[i], ", expected ", i / group,
                       ": the checkpoint was quantised in the order of activations (desc_act), "
                       "which is not read; quantise it without, or use the 16-bit checkpoint"),
                {{"tensor", name}});
  }
}

/// What lies in panels and blocks: the table of names counts whole ones.
void RequirePanels(const std::string& name, const Quantization& stored, int64_t outputs,
                   int64_t inputs) {
  if (outputs % kOwnPanel == 0 && inputs % 8 == 0 && stored.TakesGroupsOf(inputs)) return;
  throw Error(ErrorKind::kCheckpoint,
              StrCat(name, " has ", outputs, " outputs and ", inputs, " inputs in groups of ",
                     stored.GroupOf(inputs), "; quantised by this program it has a multiple of ",
                     kOwnPanel, " outputs and of 8 inputs, in groups of a multiple of ",
                     OwnBlock(stored.bits), " inputs or of the whole row"),
              {{"tensor", name}});
}

/// What every dense tensor must be.
void RequireDense(const std::string& name, at::ScalarType type, at::IntArrayRef found,
                  at::IntArrayRef shape) {
  if (found != shape) {
    throw Error(ErrorKind::kCheckpoint, StrCat(name, " has shape ", found, ", expected ", shape),
                {{"tensor", name}});
  }
  Require(type == at::kBFloat16 || type == at::kHalf || type == at::kFloat, ErrorKind::kCheckpoint,
          name, " has type ", type, ", expected bfloat16, float16 or float32");
}

}  // namespace

at::Tensor WeightSource::Take(const std::string& name, at::IntArrayRef shape) {
  at::Tensor weight = TakeDense(name, shape);
  bytes_ += static_cast<int64_t>(weight.nbytes());
  return weight;
}

at::Tensor WeightSource::TakeFloat(const std::string& name, at::IntArrayRef shape) {
  const at::Tensor weight = Take(name, shape);
  Settle();
  return weight.to(at::kFloat);
}

at::Tensor WeightSource::TakeStacked(const std::vector<std::string>& names, at::IntArrayRef shape) {
  for (const std::string& name : names) TickOff(name);
  at::Tensor weight = LoadStacked(names, shape);
  bytes_ += static_cast<int64_t>(weight.nbytes());
  return weight;
}

at::Tensor WeightSource::LoadStacked(const std::vector<std::string>& names, at::IntArrayRef shape) {
  std::vector<at::Tensor> parts;
  for (const std::string& name : names) {
    parts.push_back(Load(name, shape));
    RequireDense(name, parts.back().scalar_type(), parts.back().sizes(), shape);
  }
  return at::cat(parts);
}

at::Tensor WeightSource::Allocate(at::IntArrayRef shape) {
  throw Error(ErrorKind::kInternal,
              StrCat("this source leaves weights where they are; asked for memory of ", shape));
}

void WeightSource::TakeInto(const at::Tensor& part, const std::string& name) {
  TickOff(name);
  LoadInto(part, name);
  bytes_ += static_cast<int64_t>(part.nbytes());
}

void WeightSource::LoadInto(const at::Tensor& part, const std::string& name) {
  const at::Tensor weight = Load(name, part.sizes());
  RequireDense(name, weight.scalar_type(), weight.sizes(), part.sizes());
  part.copy_(weight);
}

UnreadTensor WeightSource::TakeUnread(const std::string& name, at::IntArrayRef shape) {
  TickOff(name);
  UnreadTensor tensor = LoadUnread(name, shape);
  RequireDense(name, tensor.type, tensor.shape, shape);
  bytes_ += c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(tensor.type));
  return tensor;
}

UnreadTensor WeightSource::LoadUnread(const std::string& name, at::IntArrayRef shape) {
  const at::Tensor weight = Load(name, shape);
  Check(weight.is_contiguous(), "the source gave ", name, " with gaps");
  return {weight.scalar_type(), weight.sizes().vec(),
          [weight](std::span<std::byte> out, size_t offset) {
            const auto* bytes = static_cast<const std::byte*>(weight.const_data_ptr());
            std::memcpy(out.data(), bytes + offset, out.size());
          }};
}

at::Tensor WeightSource::TakeDense(const std::string& name, at::IntArrayRef shape) {
  TickOff(name);
  at::Tensor weight = Load(name, shape);
  RequireDense(name, weight.scalar_type(), weight.sizes(), shape);
  Check(weight.is_contiguous(), "the source gave ", name, " with gaps");
  return weight;
}

ops::LinearWeight WeightSource::TakeLinear(const std::string& name, int64_t outputs,
                                           int64_t inputs) {
  ops::LinearWeight weight =
      Packed(Prepared(TakeStored(name, outputs, inputs), name, LinearRole::kLayer), name);
  bytes_ += weight.nbytes();
  return weight;
}

ops::LinearWeight WeightSource::TakeHead(const std::string& name, int64_t outputs, int64_t inputs) {
  ops::LinearWeight weight =
      Packed(Prepared(TakeStoredHead(name, outputs, inputs), name, LinearRole::kHead), name);
  bytes_ += weight.nbytes();
  return weight;
}

void WeightSource::PackBf12() {
  Require(!stored_, ErrorKind::kUsage, "the weights are quantised already (", ToString(stored_),
          "), and bf12 packs bfloat16 only. Leave --weights out, or load the 16-bit checkpoint");
  packs_bf12_ = true;
}

ops::LinearWeight WeightSource::Packed(ops::LinearWeight weight, const std::string& name) {
  if (weight.packing == ops::WeightPacking::kBf12) {
    ++bf12_counts_.packed;
    return weight;
  }
  if (!packs_bf12_) return weight;
  const at::ScalarType type = weight.data.scalar_type();
  if (type != at::kBFloat16) {
    throw Error(ErrorKind::kUsage,
                StrCat(name, " is ", type == at::kHalf ? "float16" : "float32",
                       ", and bf12 packs bfloat16 only; --dtype bf16 would round it first"),
                {{"tensor", name}});
  }
  std::optional<ops::LinearWeight> packed = ops::PackBf12(weight.data);
  ++(packed ? bf12_counts_.packed : bf12_counts_.kept);
  return packed ? *std::move(packed) : weight;
}

ops::LinearWeight WeightSource::TakeMatrix(const std::string& weight, int64_t outputs,
                                           int64_t inputs) {
  if (std::optional<ops::LinearWeight> packed = LoadBf12(weight, outputs, inputs)) {
    TickOff(weight);
    return *std::move(packed);
  }
  return ops::LinearWeight::Dense(TakeDense(weight, {outputs, inputs}));
}

ops::LinearWeight WeightSource::TakeStoredHead(const std::string& name, int64_t outputs,
                                               int64_t inputs) {
  const Quantization stored = stored_.Head();
  if (stored.method == Quantization::Method::kOwn) return TakeOwn(name, stored, outputs, inputs);
  if (stored) return TakeGptq(name + ".", stored, outputs, inputs);
  return TakeMatrix(name + ".weight", outputs, inputs);
}

ops::LinearWeight WeightSource::TakeStored(const std::string& name, int64_t outputs,
                                           int64_t inputs) {
  switch (stored_.method) {
    case Quantization::Method::kNone:
      break;
    case Quantization::Method::kGptq: {
      const std::string module = name + ".linear.";
      ops::LinearWeight weight = TakeGptq(module, stored_, outputs, inputs);
      TickOff(module + "bias");
      weight.bias = LoadPart(module + "bias", at::kHalf, {outputs});
      return weight;
    }
    case Quantization::Method::kAwq:
      return TakeAwq(name + ".", outputs, inputs);
    case Quantization::Method::kOwn:
      return TakeOwn(name, stored_, outputs, inputs);
  }
  return TakeMatrix(name + ".weight", outputs, inputs);
}

ops::LinearWeight WeightSource::TakeGptq(const std::string& module, const Quantization& stored,
                                         int64_t outputs, int64_t inputs) {
  const int64_t per_word = 32 / stored.bits;
  const int64_t groups = stored.GroupsOf(inputs);
  ops::LinearWeight weight;
  weight.packing = stored.bits == 8 ? ops::WeightPacking::kGptq8 : ops::WeightPacking::kGptq4;
  weight.group = stored.GroupOf(inputs);
  weight.data = TakePart(module + "qweight", at::kInt, {inputs / per_word, outputs});
  weight.zeros = TakePart(module + "qzeros", at::kInt, {groups, outputs / per_word});
  weight.scales = TakePart(module + "scales", at::kHalf, {groups, outputs});
  TickOff(module + "g_idx");
  if (const auto g_idx = LoadPart(module + "g_idx", at::kInt, {inputs})) {
    RequireAscendingGroups(*g_idx, weight.group, module + "g_idx");
  }
  return weight;
}

ops::LinearWeight WeightSource::TakeAwq(const std::string& module, int64_t outputs,
                                        int64_t inputs) {
  const int64_t groups = stored_.GroupsOf(inputs);
  ops::LinearWeight weight;
  weight.packing = ops::WeightPacking::kAwq4;
  weight.group = stored_.GroupOf(inputs);
  weight.data = TakePart(module + "qweight", at::kInt, {inputs, outputs / 8});
  weight.zeros = TakePart(module + "qzeros", at::kInt, {groups, outputs / 8});
  weight.scales = TakePart(module + "scales", at::kHalf, {groups, outputs});
  return weight;
}

ops::LinearWeight WeightSource::TakeOwn(const std::string& name, const Quantization& stored,
                                        int64_t outputs, int64_t inputs) {
  RequirePanels(name, stored, outputs, inputs);
  const int64_t panels = outputs / kOwnPanel;
  const int64_t groups = stored.GroupsOf(inputs);
  ops::LinearWeight weight;
  weight.packing = stored.bits == 8 ? ops::WeightPacking::kInt8 : ops::WeightPacking::kInt4;
  weight.group = stored.GroupOf(inputs);
  weight.data = TakePart(name + ".codes", at::kInt, {panels, inputs * stored.bits / 32, kOwnPanel});
  weight.zeros =
      TakePart(name + ".zeros", at::kInt, {panels, groups, kOwnPanel * stored.bits / 32});
  weight.scales = TakePart(name + ".scales", at::kHalf, {panels, groups, kOwnPanel});
  return weight;
}

at::Tensor WeightSource::TakePart(const std::string& name, at::ScalarType type,
                                  at::IntArrayRef shape) {
  TickOff(name);
  std::optional<at::Tensor> part = LoadPart(name, type, shape);
  if (!part) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat("the checkpoint has no tensor ", name, " of shape ", shape),
                {{"tensor", name}});
  }
  return *std::move(part);
}

std::optional<at::Tensor> WeightSource::LoadPart(const std::string& name, at::ScalarType,
                                                 at::IntArrayRef) {
  throw Error(ErrorKind::kInternal, StrCat("this source has no quantised weights: ", name));
}

std::optional<ops::LinearWeight> WeightSource::LoadBf12(const std::string&, int64_t, int64_t) {
  return std::nullopt;
}

ops::LinearWeight WeightSource::Prepared(ops::LinearWeight weight, const std::string&, LinearRole) {
  return weight;
}

void WeightSource::TickOff(const std::string& name) {
  Check(taken_.insert(name).second, "the weight ", name, " was taken twice");
}

void WeightSource::RequireTaken(const std::vector<std::string>& names) const {
  std::string left;
  for (const std::string& name : names) {
    if (taken_.count(name) == 0) left += (left.empty() ? "" : ", ") + name;
  }
  Check(left.empty(), "weights that the model did not take: ", left);
}

}  // namespace xcomposer
