#pragma once

#include <atomic>
#include <cstring>
#include <span>
#include <vector>

#include "pipeline/staged_upload.h"
#include "xcomposer/error.h"

namespace xcomposer {

/// A device that copies as late as it may: a buffer that is filled again too early, or a result
/// that is read before it was waited for, shows.
class LazyCopies final : public CopyEngine {
 public:
  LazyCopies(size_t buffers, size_t bytes) : bytes_(bytes), buffers_(buffers), copies_(buffers) {}

  void Settle() override { ++settled; }
  size_t buffer_bytes() const override { return bytes_; }
  void Make(size_t buffer) override {
    if (static_cast<int>(buffer) == fail_to_make) throw Error(ErrorKind::kCapacity, "no buffer");
    buffers_[buffer].resize(bytes_);
  }
  std::span<std::byte> Buffer(size_t buffer) override { return buffers_[buffer]; }
  void Start(size_t buffer, void* target, size_t bytes) override {
    if (fail_at >= 0 && started++ == fail_at) throw Error(ErrorKind::kDevice, "the copy failed");
    copies_[buffer] = {target, bytes};
  }
  void Wait(size_t buffer) override {
    Copy& copy = copies_[buffer];
    if (copy.target != nullptr) std::memcpy(copy.target, buffers_[buffer].data(), copy.bytes);
    copy = {};
  }

  int fail_at = -1;
  int fail_to_make = -1;
  std::atomic<int> started{0};
  int settled = 0;

 private:
  struct Copy {
    void* target = nullptr;
    size_t bytes = 0;
  };
  const size_t bytes_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<Copy> copies_;
};

}  // namespace xcomposer
