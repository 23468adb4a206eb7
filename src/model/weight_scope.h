#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "config/quantization.h"
#include "ops/linear_weight.h"

namespace xcomposer {

/// A dense tensor as its source stores it, for those who read each byte once and keep none.
struct UnreadTensor {
  at::ScalarType type = at::kFloat;  ///< bfloat16, float16 or float32
  std::vector<int64_t> shape;
  /// Copies the bytes [offset, offset + out.size()) of its numbers, row-major. From any thread, as
  /// long as the source lives.
  std::function<void(std::span<std::byte> out, size_t offset)> read;
};

/// What a linear is for: the two may be stored in different ways.
enum class LinearRole { kLayer, kHead };

/// Matrices in 12 bits a number, of the source or packed while taken.
struct Bf12Counts {
  int64_t packed = 0;
  int64_t kept = 0;  ///< asked for, and left as they are: their size or their numbers do not fit
};

/// Where weights come from: a checkpoint, random numbers, or the meta device (shapes only). Take
/// checks and ticks off, so that a model which forgets a tensor or reads one twice is found at load
/// time.
class WeightSource {
 public:
  /// `stored`: how the linears of the decoder and the output matrix are quantised in this source.
  explicit WeightSource(const Quantization& stored = {}) : stored_(stored) {}
  virtual ~WeightSource() = default;

  /// The tensor with this name: bfloat16, float16 or float32, contiguous, of exactly this shape.
  /// Throws kCheckpoint for a tensor that is missing or of another shape, kInternal for a second
  /// Take.
  at::Tensor Take(const std::string& name, at::IntArrayRef shape);

  /// The same widened to float32, for those who read it before everything is loaded. Elsewhere the
  /// numbers of a tensor may still be on their way (DeviceWeights).
  at::Tensor TakeFloat(const std::string& name, at::IntArrayRef shape);

  /// Whether weights that share their input are best taken as one: a source that copies tensors
  /// anyhow says so, one that maps files does not.
  virtual bool stacks() const { return false; }

  /// Tensors of one shape, one below the other along their first dimension. Throws as Take does.
  at::Tensor TakeStacked(const std::vector<std::string>& names, at::IntArrayRef shape);

  /// Memory for weights of several names, uninitialised, of the type and on the device of what Take
  /// gives. Throws kInternal where !stacks().
  virtual at::Tensor Allocate(at::IntArrayRef shape);

  /// Take into a part of such memory: a matrix of the tensor's shape whose rows may lie apart.
  /// Throws as Take does.
  void TakeInto(const at::Tensor& part, const std::string& name);

  /// Take without reading: the type is that of the source, whatever it would convert to.
  UnreadTensor TakeUnread(const std::string& name, at::IntArrayRef shape);

  /// The weight of the decoder's linear `name` (its module, without ".weight"), in the packing that
  /// the source has it in. Ticks off every tensor that it is made of. Throws as Take does.
  ops::LinearWeight TakeLinear(const std::string& name, int64_t outputs, int64_t inputs);

  /// The same for the output matrix, which has a packing of its own.
  ops::LinearWeight TakeHead(const std::string& name, int64_t outputs, int64_t inputs);

  /// From now on the linears and the output matrix are packed into 12 bits a number
  /// (ops::PackBf12), where that holds them; then those that are not bfloat16 are refused with
  /// kUsage. Throws kUsage for a source that is quantised.
  void PackBf12();
  const Bf12Counts& bf12_counts() const { return bf12_counts_; }

  /// Of everything taken so far, mapped files too; a linear counts as it is kept.
  int64_t bytes() const { return bytes_; }

  /// Throws kInternal naming every tensor of `names` that was not taken.
  void RequireTaken(const std::vector<std::string>& names) const;

 protected:
  const Quantization& stored() const { return stored_; }

  /// A part of a packed linear. Throws as Take does.
  at::Tensor TakePart(const std::string& name, at::ScalarType type, at::IntArrayRef shape);

  /// The tensor that Load gives, unless a source knows better.
  virtual UnreadTensor LoadUnread(const std::string& name, at::IntArrayRef shape);

 private:
  virtual at::Tensor Load(const std::string& name, at::IntArrayRef shape) = 0;
  virtual at::Tensor LoadStacked(const std::vector<std::string>& names, at::IntArrayRef shape);
  virtual void LoadInto(const at::Tensor& part, const std::string& name);
  /// Waits until all that was loaded can be read.
  virtual void Settle() {}
  /// A part of a quantised linear as stored, or nothing where it is missing.
  virtual std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                             at::IntArrayRef shape);
  /// The linear `weight` ("….weight") where the source has it in 12 bits and leaves it so. Load
  /// gives its numbers else.
  virtual std::optional<ops::LinearWeight> LoadBf12(const std::string& weight, int64_t outputs,
                                                    int64_t inputs);
  /// What becomes of a linear's weight once it is read.
  virtual ops::LinearWeight Prepared(ops::LinearWeight weight, const std::string& name,
                                     LinearRole role);

  ops::LinearWeight Packed(ops::LinearWeight weight, const std::string& name);
  void TickOff(const std::string& name);
  at::Tensor TakeDense(const std::string& name, at::IntArrayRef shape);
  ops::LinearWeight TakeMatrix(const std::string& weight, int64_t outputs, int64_t inputs);
  ops::LinearWeight TakeStored(const std::string& name, int64_t outputs, int64_t inputs);
  ops::LinearWeight TakeStoredHead(const std::string& name, int64_t outputs, int64_t inputs);
  ops::LinearWeight TakeGptq(const std::string& module, const Quantization& stored, int64_t outputs,
                             int64_t inputs);
  ops::LinearWeight TakeAwq(const std::string& module, int64_t outputs, int64_t inputs);
  ops::LinearWeight TakeOwn(const std::string& name, const Quantization& stored, int64_t outputs,
                            int64_t inputs);

  Quantization stored_;
  bool packs_bf12_ = false;
  Bf12Counts bf12_counts_;
  int64_t bytes_ = 0;
  std::set<std::string> taken_;
};

/// A source and a prefix: Scope(source).Sub("model.layers.17").Take("attention.wqkv.weight", {6144,
/// 4096}). Cheap to copy; the source must outlive it.
class WeightScope {
 public:
  explicit WeightScope(WeightSource& source, std::string prefix = "")
      : source_(&source), prefix_(std::move(prefix)) {}

  WeightScope Sub(const std::string& name) const {
    return WeightScope(*source_, prefix_ + name + ".");
  }

  at::Tensor Take(const std::string& name, at::IntArrayRef shape) const {
    return source_->Take(prefix_ + name, shape);
  }

  at::Tensor TakeFloat(const std::string& name, at::IntArrayRef shape) const {
    return source_->TakeFloat(prefix_ + name, shape);
  }

  bool stacks() const { return source_->stacks(); }

  at::Tensor TakeStacked(std::vector<std::string> names, at::IntArrayRef shape) const {
    for (std::string& name : names) name = prefix_ + name;
    return source_->TakeStacked(names, shape);
  }

  at::Tensor Allocate(at::IntArrayRef shape) const { return source_->Allocate(shape); }

  void TakeInto(const at::Tensor& part, const std::string& name) const {
    source_->TakeInto(part, prefix_ + name);
  }

  /// The weight of the linear that this scope is.
  ops::LinearWeight TakeLinear(int64_t outputs, int64_t inputs) const {
    return source_->TakeLinear(module(), outputs, inputs);
  }

  /// The output matrix that this scope is.
  ops::LinearWeight TakeHead(int64_t outputs, int64_t inputs) const {
    return source_->TakeHead(module(), outputs, inputs);
  }

 private:
  std::string module() const { return prefix_.substr(0, prefix_.size() - 1); }

  WeightSource* source_;
  std::string prefix_;
};

}  // namespace xcomposer
