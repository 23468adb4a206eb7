#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace xcomposer {

/// Copies from staging buffers to a device, which go on while the host fills the next buffer.
/// Buffers are used by different threads at the same time, each buffer by one.
class CopyEngine {
 public:
  virtual ~CopyEngine() = default;

  /// Called where memory is handed over as a target: waits until nothing that the calling thread
  /// has started earlier uses it any more.
  virtual void Settle() = 0;

  /// Of each buffer: a multiple of 16.
  virtual size_t buffer_bytes() const = 0;

  /// Makes buffer number `buffer`. Called once, by the thread that will use it, before it does.
  virtual void Make(size_t buffer) = 0;

  /// Staging memory number `buffer`, from which the device copies by itself.
  virtual std::span<std::byte> Buffer(size_t buffer) = 0;

  /// Starts copying the first `bytes` of the buffer to `target` on the device.
  virtual void Start(size_t buffer, void* target, size_t bytes) = 0;

  /// Waits until the copy from this buffer that was started last is done, if any was.
  virtual void Wait(size_t buffer) = 0;
};

/// Brings bytes to a device with several threads that read, convert and copy piece by piece. Each
/// thread has two buffers: it fills one while the other is copied. All that was added is one queue
/// of pieces, whatever tensors they belong to, in no particular order.
class StagedUpload {
 public:
  /// Writes the bytes [offset, offset + out.size()) of what is uploaded to `out`. Called from
  /// several threads.
  using Fill = std::function<void(std::span<std::byte> out, size_t offset)>;

  /// `engine` has 2 * threads buffers.
  StagedUpload(std::unique_ptr<CopyEngine> engine, size_t threads);
  ~StagedUpload();  ///< what has not begun by then is left out
  StagedUpload(const StagedUpload&) = delete;
  StagedUpload& operator=(const StagedUpload&) = delete;

  /// Returns at once, unless gigabytes are waiting.
  void Add(void* target, size_t bytes, Fill fill);

  /// Waits until all that was added is on the device. Throws the first error of a fill or a copy.
  void Finish();

 private:
  struct Piece {
    std::byte* target;
    size_t bytes;
    size_t offset;
    std::shared_ptr<const Fill> fill;
  };

  void Work(size_t thread);
  void Upload(const Piece& piece, size_t buffer);
  /// Keeps what `work` throws, drops what has not begun, and returns false.
  bool Guarded(const std::function<void()>& work);

  std::unique_ptr<CopyEngine> engine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> pieces_;
  size_t busy_ = 0;  // threads that fill a buffer, or have a copy of theirs under way
  bool ending_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace xcomposer
