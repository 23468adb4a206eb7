#include "pipeline/staged_upload.h"

#include <algorithm>
#include <utility>

namespace xcomposer {
namespace {

// That may wait for the threads: what adds is then far ahead of them, so that it can do other
// things meanwhile, but not so far that it tells of tensors as loaded which are not.
constexpr size_t kWaitingBytes = size_t{4} << 30;

}  // namespace

StagedUpload::StagedUpload(std::unique_ptr<UploadDevice> device, size_t threads)
    : device_(std::move(device)), streams_(device_->streams()) {
  try {
    for (size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this, i] { Work(i); });
    }
  } catch (...) {
    End();  // those that did start
    throw;
  }
}

StagedUpload::~StagedUpload() { End(); }

void StagedUpload::End() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    pieces_.clear();
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void StagedUpload::Add(const UploadTensor& tensor, Fill fill) {
  device_->Settle();
  const auto shared = std::make_shared<const Fill>(std::move(fill));
  const size_t bytes = device_->buffer_bytes();
  const auto step = static_cast<int64_t>(bytes / c10::elementSize(tensor.stored));
  for (int64_t first = 0; first < tensor.count; first += step) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, bytes] {
      return failure_ != nullptr || pieces_.size() * bytes < kWaitingBytes;
    });
    if (failure_ != nullptr) return;  // Finish tells
    pieces_.push_back({{tensor, first, std::min(step, tensor.count - first)}, shared});
    changed_.notify_all();
  }
}

void StagedUpload::Finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pieces_.empty() && busy_ == 0; });
  if (failure_ != nullptr) std::rethrow_exception(failure_);
  device_->Finish();
}

void StagedUpload::Work(size_t thread) {
  const size_t first = 2 * thread;
  const bool is_ready = Guarded([&] {
    device_->Make(first);
    device_->Make(first + 1);
  });
  if (!is_ready) return;
  std::unique_lock lock(mutex_);
  for (size_t turn = 0;; ++turn) {
    changed_.wait(lock, [this] { return ending_ || !pieces_.empty(); });
    if (pieces_.empty()) return;
    const Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    ++busy_;
    changed_.notify_all();
    lock.unlock();
    Guarded([&] { Upload(piece, first + turn % 2); });
    lock.lock();
    --busy_;
    changed_.notify_all();
  }
}

bool StagedUpload::Guarded(const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (failure_ == nullptr) failure_ = std::current_exception();
    pieces_.clear();
    changed_.notify_all();
    return false;
  }
}

void StagedUpload::Upload(const Piece& piece, size_t buffer) {
  const UploadPiece& numbers = piece.numbers;
  const UploadTensor& tensor = numbers.tensor;
  const size_t size = c10::elementSize(tensor.stored);
  const size_t offset = static_cast<size_t>(numbers.first) * size;
  const size_t bytes = static_cast<size_t>(numbers.count) * size;
  device_->Wait(buffer);  // for the copy before last, which read this buffer
  (*piece.fill)(device_->Buffer(buffer).first(bytes), offset);
  const size_t stream = buffer % streams_.size();
  // Another piece between these steps would take the stream's memory before this one left it.
  const std::lock_guard lock(streams_[stream]);
  if (tensor.is_copy()) {
    device_->Copy(stream, buffer, static_cast<std::byte*>(tensor.target) + offset, bytes);
    device_->Mark(stream, buffer);
  } else {
    device_->Stage(stream, buffer, bytes);
    device_->Mark(stream, buffer);  // the buffer is free before the numbers are in their places
    device_->Place(stream, numbers);
  }
}

}  // namespace xcomposer
