#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace xcomposer {

/// Streams of a process, each lent to one user at a time, made where none of the device is free.
/// (LibTorch's own pool gives every 33rd asker the stream of the first.) None is ever destroyed:
/// the allocator of the memory that was used on one asks for it whenever that memory is freed.
/// Thread-safe; must outlive what it lends.
template <typename Stream>
class StreamShelf {
 public:
  /// A stream until it goes.
  class Lent {
   public:
    Lent(StreamShelf* shelf, int device, Stream stream)
        : shelf_(shelf), device_(device), stream_(std::move(stream)) {}
    ~Lent() { shelf_->Return(device_, stream_); }
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;

    const Stream& stream() const { return stream_; }

   private:
    StreamShelf* shelf_;
    int device_;
    Stream stream_;
  };

  Lent Take(int device, const std::function<Stream()>& make) {
    {
      const std::lock_guard lock(mutex_);
      std::vector<Stream>& free = free_[device];
      if (!free.empty()) {
        Stream stream = std::move(free.back());
        free.pop_back();
        return Lent(this, device, std::move(stream));
      }
    }
    return Lent(this, device, make());
  }

 private:
  void Return(int device, const Stream& stream) {
    const std::lock_guard lock(mutex_);
    free_[device].push_back(stream);
  }

  std::mutex mutex_;
  std::map<int, std::vector<Stream>> free_;
};

}  // namespace xcomposer
