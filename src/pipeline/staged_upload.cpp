#include "pipeline/staged_upload.h"

#include <algorithm>
#include <utility>

namespace xcomposer {
namespace {

// That may wait for the threads: what adds is then far ahead of them, so that it can do other
// things meanwhile, but not so far that it tells of tensors as loaded which are not.
constexpr size_t kWaitingBytes = size_t{4} << 30;

}  // namespace

StagedUpload::StagedUpload(std::unique_ptr<CopyEngine> engine, size_t threads)
    : engine_(std::move(engine)) {
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] { Work(i); });
  }
}

StagedUpload::~StagedUpload() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    pieces_.clear();
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void StagedUpload::Add(void* target, size_t bytes, Fill fill) {
  engine_->Settle();
  const auto shared = std::make_shared<const Fill>(std::move(fill));
  const size_t step = engine_->buffer_bytes();
  for (size_t offset = 0; offset < bytes; offset += step) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, step] {
      return failure_ != nullptr || pieces_.size() * step < kWaitingBytes;
    });
    if (failure_ != nullptr) return;  // Finish tells
    pieces_.push_back(
        {static_cast<std::byte*>(target) + offset, std::min(step, bytes - offset), offset, shared});
    changed_.notify_all();
  }
}

void StagedUpload::Finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pieces_.empty() && busy_ == 0; });
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void StagedUpload::Work(size_t thread) {
  const size_t first = 2 * thread;
  const bool is_ready = Guarded([&] {
    engine_->Make(first);
    engine_->Make(first + 1);
  });
  if (!is_ready) return;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !pieces_.empty(); });
    if (pieces_.empty()) return;
    ++busy_;
    for (size_t turn = 0; !pieces_.empty(); ++turn) {
      const Piece piece = std::move(pieces_.front());
      pieces_.pop_front();
      changed_.notify_all();
      lock.unlock();
      Guarded([&] { Upload(piece, first + turn % 2); });
      lock.lock();
    }
    lock.unlock();
    for (const size_t buffer : {first, first + 1}) {
      Guarded([&] { engine_->Wait(buffer); });
    }
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
  engine_->Wait(buffer);  // the copy before last, which read this buffer
  const std::span<std::byte> out = engine_->Buffer(buffer).first(piece.bytes);
  (*piece.fill)(out, piece.offset);
  engine_->Start(buffer, piece.target, piece.bytes);
}

}  // namespace xcomposer
