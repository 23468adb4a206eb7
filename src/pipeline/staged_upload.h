#pragma once

#include <c10/core/ScalarType.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace xcomposer {

/// The numbers of a tensor, row-major as their source stores them, and where they go on a device:
/// to rows that may lie apart, in a type of 16 bits.
struct UploadTensor {
  at::ScalarType stored = at::kBFloat16;  ///< bfloat16, float16 or float32
  int64_t count = 0;
  void* target = nullptr;           ///< the first number's place
  at::ScalarType type = at::kHalf;  ///< float16 or bfloat16
  int64_t columns = 0;              ///< numbers of a row
  int64_t row_stride = 0;           ///< numbers of the target between the starts of rows
  /// Two counters on the device, to which is added how many numbers were finite and became
  /// infinite, and how many were not zero and became zero.
  int64_t* losses = nullptr;

  /// Whether the target has the bytes of the source as they are.
  bool is_copy() const { return stored == type && (row_stride == columns || count <= columns); }
};

/// Some neighbouring numbers of a tensor.
struct UploadPiece {
  UploadTensor tensor;
  int64_t first = 0;
  int64_t count = 0;
};

/// A device that copies from staging buffers of the host while the host fills the next ones. What
/// it is asked to do on one of its streams it does in this order, each step after the one before.
/// Buffers are used by different threads at the same time, each buffer by one; so are streams.
class UploadDevice {
 public:
  virtual ~UploadDevice() = default;

  /// Called where memory is handed over as a target: waits until nothing that the calling thread
  /// has started earlier uses it any more.
  virtual void Settle() = 0;

  /// Of each buffer: a multiple of 16.
  virtual size_t buffer_bytes() const = 0;

  /// At least one.
  virtual size_t streams() const = 0;

  /// Makes buffer number `buffer`. Called once, by the thread that will use it, before it does.
  virtual void Make(size_t buffer) = 0;

  /// Staging memory number `buffer`, from which the device copies by itself.
  virtual std::span<std::byte> Buffer(size_t buffer) = 0;

  /// Copies the first `bytes` of the buffer to `target` on the device.
  virtual void Copy(size_t stream, size_t buffer, void* target, size_t bytes) = 0;

  /// Copies them to memory of the device that is the stream's own, as large as a buffer.
  virtual void Stage(size_t stream, size_t buffer, size_t bytes) = 0;

  /// Lets Wait(buffer) end when the stream has done all that came before.
  virtual void Mark(size_t stream, size_t buffer) = 0;

  /// Writes the piece, which the stream's own memory begins with, to its places.
  virtual void Place(size_t stream, const UploadPiece& piece) = 0;

  /// Waits for the buffer's last mark, if it has any.
  virtual void Wait(size_t buffer) = 0;

  /// Waits for all streams.
  virtual void Finish() = 0;
};

/// Brings tensors to a device with several threads that read piece by piece. Each thread has two
/// buffers: it fills one while the other is copied. Where the target has another type than the
/// source, or rows that lie apart, the device itself writes the numbers to their places. All that
/// was added is one queue of pieces, whatever tensors they belong to, in no particular order.
class StagedUpload {
 public:
  /// Writes the bytes [offset, offset + out.size()) of the tensor's source to `out`. Called from
  /// several threads.
  using Fill = std::function<void(std::span<std::byte> out, size_t offset)>;

  /// `device` has 2 * threads buffers.
  StagedUpload(std::unique_ptr<UploadDevice> device, size_t threads);
  ~StagedUpload();  ///< what has not begun by then is left out
  StagedUpload(const StagedUpload&) = delete;
  StagedUpload& operator=(const StagedUpload&) = delete;

  /// Returns at once, unless gigabytes are waiting.
  void Add(const UploadTensor& tensor, Fill fill);

  /// Waits until all that was added is in its place. Throws the first error of a fill or of the
  /// device.
  void Finish();

 private:
  struct Piece {
    UploadPiece numbers;
    std::shared_ptr<const Fill> fill;
  };

  void End();
  void Work(size_t thread);
  void Upload(const Piece& piece, size_t buffer);
  /// Keeps what `work` throws, drops what has not begun, and returns false.
  bool Guarded(const std::function<void()>& work);

  std::unique_ptr<UploadDevice> device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> pieces_;
  size_t busy_ = 0;  // threads that have a piece in hand
  bool ending_ = false;
  std::exception_ptr failure_;
  std::vector<std::mutex> streams_;  // whoever asks a stream for several steps in a row holds it
  std::vector<std::thread> threads_;
};

}  // namespace xcomposer
