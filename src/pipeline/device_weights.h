#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/weight_scope.h"
#include "pipeline/staged_upload.h"
#include "pipeline/storage_cast.h"

namespace xcomposer {

/// The weights of a source on the host, on a device and in one 16-bit type. Tensors are on their
/// way when they are given; they are there after Finish.
class DeviceWeights final : public WeightSource {
 public:
  /// `upload` brings them to the device of `options`.
  DeviceWeights(WeightSource& host, const at::TensorOptions& options,
                std::unique_ptr<StagedUpload> upload)
      : host_(host), options_(options), upload_(std::move(upload)) {}

  bool stacks() const override { return true; }

  at::Tensor Allocate(at::IntArrayRef shape) override;

  /// Waits, and reports which tensors lost numbers. Throws kCheckpoint where a value became
  /// infinite, naming the tensor, and what a copy threw.
  void Finish();

 private:
  struct Loaded {
    std::string name;
    int64_t numbers = 0;
  };

  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  at::Tensor LoadStacked(const std::vector<std::string>& names, at::IntArrayRef shape) override;
  /// `device`: (rows, ...), each row dense; the rows may lie apart.
  void LoadInto(const at::Tensor& device, const std::string& name) override;
  void Settle() override { upload_->Finish(); }
  /// The two counters on the device of the next tensor that is taken.
  int64_t* NextLosses();

  WeightSource& host_;
  at::TensorOptions options_;
  std::vector<Loaded> loaded_;
  std::vector<at::Tensor> losses_;        // int64 (kCounted, 2) each, in the order of loaded_
  std::unique_ptr<StagedUpload> upload_;  // last: its threads use the members above
};

}  // namespace xcomposer
