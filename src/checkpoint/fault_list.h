#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace xcomposer {

/// Collects what is wrong with the tensors of a checkpoint, to report it in one error.
class FaultList {
 public:
  explicit FaultList(std::string_view file) : file_(file) {}

  void Add(std::string_view tensor, std::string_view what);

  /// Throws kCheckpoint with `headline` and every fault on a line of its own (the first 1,000, then
  /// their number), naming the file and the first tensor in where().
  void ThrowIfAny(std::string_view headline) const;

 private:
  std::string file_;
  std::string first_tensor_;
  std::string lines_;
  int64_t count_ = 0;
};

}  // namespace xcomposer
