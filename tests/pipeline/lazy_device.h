#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/staged_upload.h"
#include "pipeline/storage_cast.h"
#include "xcomposer/error.h"

namespace xcomposer {

/// A device whose memory is the host's and whose streams do their steps as late as they may: a
/// buffer that is filled again too early, a stream's memory that another piece takes too early, or
/// a result that is read before it was waited for, shows.
class LazyDevice final : public UploadDevice {
 public:
  LazyDevice(size_t buffers, size_t bytes)
      : bytes_(bytes), buffers_(buffers), marks_(buffers), queues_(kStreams) {
    for (Queue& queue : queues_) queue.staged.resize(bytes);
  }
  /// What was begun is done before the buffers go, as on a GPU that is waited for.
  ~LazyDevice() override { RunAll(); }

  void Settle() override { ++settled; }
  size_t buffer_bytes() const override { return bytes_; }
  size_t streams() const override { return kStreams; }
  void Make(size_t buffer) override {
    if (static_cast<int>(buffer) == fail_to_make) throw Error(ErrorKind::kCapacity, "no buffer");
    buffers_[buffer].resize(bytes_);
  }
  std::span<std::byte> Buffer(size_t buffer) override { return buffers_[buffer]; }

  void Copy(size_t stream, size_t buffer, void* target, size_t bytes) override {
    Enqueue(stream, "copy " + std::to_string(buffer),
            [this, buffer, target, bytes] { std::memcpy(target, buffers_[buffer].data(), bytes); });
  }
  void Stage(size_t stream, size_t buffer, size_t bytes) override {
    Enqueue(stream, "stage " + std::to_string(buffer), [this, stream, buffer, bytes] {
      std::memcpy(queues_[stream].staged.data(), buffers_[buffer].data(), bytes);
    });
  }
  void Mark(size_t stream, size_t buffer) override {
    Enqueue(stream, "mark " + std::to_string(buffer), [] {});
    const std::lock_guard lock(mutex_);
    marks_[buffer] = {stream, queues_[stream].done + queues_[stream].steps.size()};
  }
  void Place(size_t stream, const UploadPiece& piece) override {
    Enqueue(stream, "place",
            [this, stream, piece] { PlaceOnHost(piece, queues_[stream].staged.data()); });
  }

  void Wait(size_t buffer) override {
    const std::lock_guard lock(mutex_);
    RunUntil(queues_[marks_[buffer].stream], marks_[buffer].step);
  }
  void Finish() override {
    if (fail_to_finish) throw Error(ErrorKind::kDevice, "the device was lost");
    RunAll();
  }

  /// What a stream was asked to do, in this order: "stage 3", "place".
  const std::vector<std::string>& Log(size_t stream) const { return queues_[stream].log; }

  static constexpr size_t kStreams = 2;

  int fail_at = -1;  ///< the step, whatever it is, that cannot be asked for
  int fail_to_make = -1;
  bool fail_to_finish = false;
  int settled = 0;

 private:
  struct Queue {
    std::deque<std::function<void()>> steps;
    size_t done = 0;
    std::vector<std::byte> staged;
    std::vector<std::string> log;
  };
  struct Marked {
    size_t stream = 0;
    size_t step = 0;  // how many must be done
  };

  void Enqueue(size_t stream, const std::string& what, std::function<void()> step) {
    std::this_thread::yield();  // whoever may come between two steps shall
    const std::lock_guard lock(mutex_);
    if (fail_at >= 0 && asked_++ == fail_at) throw Error(ErrorKind::kDevice, "cannot " + what);
    queues_[stream].steps.push_back(std::move(step));
    queues_[stream].log.push_back(what);
  }

  static void RunUntil(Queue& queue, size_t step) {
    for (; queue.done < step; ++queue.done) {
      queue.steps.front()();
      queue.steps.pop_front();
    }
  }

  void RunAll() {
    const std::lock_guard lock(mutex_);
    for (Queue& queue : queues_) RunUntil(queue, queue.done + queue.steps.size());
  }

  static void PlaceOnHost(const UploadPiece& piece, const std::byte* staged) {
    const UploadTensor& tensor = piece.tensor;
    auto* const target = static_cast<std::byte*>(tensor.target);
    for (int64_t done = 0; done < piece.count;) {
      const int64_t row = (piece.first + done) / tensor.columns;
      const int64_t column = (piece.first + done) % tensor.columns;
      const int64_t run = std::min(tensor.columns - column, piece.count - done);
      const auto at = static_cast<size_t>(row * tensor.row_stride + column);
      const CastCounts counts =
          Cast(staged + static_cast<size_t>(done) * c10::elementSize(tensor.stored), tensor.stored,
               target + at * c10::elementSize(tensor.type), tensor.type, static_cast<size_t>(run));
      tensor.losses[0] += counts.overflows;
      tensor.losses[1] += counts.underflows;
      done += run;
    }
  }

  const size_t bytes_;
  std::vector<std::vector<std::byte>> buffers_;
  std::mutex mutex_;  // of what follows
  std::vector<Marked> marks_;
  std::vector<Queue> queues_;
  int asked_ = 0;
};

}  // namespace xcomposer
