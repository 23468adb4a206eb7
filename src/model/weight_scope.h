#pragma once

#include <ATen/core/Tensor.h>

#include <set>
#include <string>
#include <vector>

namespace xcomposer {

/// Where weights come from: a checkpoint, random numbers, or the meta device (shapes only). Take
/// checks and ticks off, so that a model which forgets a tensor or reads one twice is found at load
/// time.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor with this name: bfloat16, float16 or float32, contiguous, of exactly this shape.
  /// Throws kCheckpoint for a tensor that is missing or of another shape, kInternal for a second
  /// Take.
  at::Tensor Take(const std::string& name, at::IntArrayRef shape);

  /// Throws kInternal naming every tensor of `names` that was not taken.
  void RequireTaken(const std::vector<std::string>& names) const;

 private:
  virtual at::Tensor Load(const std::string& name, at::IntArrayRef shape) = 0;

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

 private:
  WeightSource* source_;
  std::string prefix_;
};

}  // namespace xcomposer
