#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "transport/nccl_api.h"

namespace xcomposer {

/// An NCCL between threads of this process that really moves bytes: a transfer is over when both
/// ends have begun theirs. Thread-safe; lives longer than its communicators.
class MailboxNccl {
 public:
  NcclApi Api() {
    NcclApi api;
    api.make_unique_id = [this](NcclUniqueId& id) {
      const std::lock_guard lock(mutex_);
      id.bytes.fill('u');
      const std::string number = std::to_string(++ids_);
      std::memcpy(id.bytes.data(), number.data(), number.size());
      return NcclState::kDone;
    };
    api.init = [this](NcclCommunicator& communicator, int, const NcclUniqueId& id, int) {
      const std::lock_guard lock(mutex_);
      ++alive_;
      ++made_;
      communicator = &boxes_[std::string(id.bytes.data(), id.bytes.size())];
      return NcclState::kDone;
    };
    api.state = [](NcclCommunicator) { return NcclState::kDone; };
    api.send = [this](const void* data, size_t bytes, int, NcclCommunicator box, CudaStream) {
      const std::lock_guard lock(mutex_);
      if (moved_ >= fails_after_) return NcclState::kFailed;
      moved_ += bytes;
      const auto* from = static_cast<const std::byte*>(data);
      static_cast<Box*>(box)->emplace_back(from, from + bytes);
      return NcclState::kDone;
    };
    api.receive = [this](void* data, size_t bytes, int, NcclCommunicator box, CudaStream stream) {
      const std::lock_guard lock(mutex_);
      waiting_[stream].push_back({static_cast<Box*>(box), data, bytes});
      return NcclState::kDone;
    };
    api.query_stream = [this](CudaStream stream) { return Progress(stream); };
    const auto end = [this](NcclCommunicator) {
      const std::lock_guard lock(mutex_);
      --alive_;
      return NcclState::kDone;
    };
    api.finalize = [](NcclCommunicator) { return NcclState::kDone; };
    api.destroy = api.abort = end;
    api.last_error = [](NcclCommunicator) { return std::string("the mailbox is full"); };
    return api;
  }

  void FailAfter(size_t bytes) { fails_after_ = bytes; }  ///< before use
  size_t moved() const { return moved_; }
  int communicators_made() const { return made_; }
  int communicators_alive() const { return alive_; }

 private:
  using Box = std::deque<std::vector<std::byte>>;
  struct Receive {
    Box* box;
    void* data;
    size_t bytes;
  };

  NcclState Progress(CudaStream stream) {
    const std::lock_guard lock(mutex_);
    auto& receives = waiting_[stream];
    while (!receives.empty()) {
      const Receive& next = receives.front();
      if (next.box->empty()) return NcclState::kInProgress;
      if (next.box->front().size() != next.bytes) return NcclState::kFailed;
      std::memcpy(next.data, next.box->front().data(), next.bytes);
      next.box->pop_front();
      receives.pop_front();
    }
    return NcclState::kDone;
  }

  std::mutex mutex_;
  std::map<std::string, Box> boxes_;  // by unique id
  std::map<CudaStream, std::deque<Receive>> waiting_;
  size_t fails_after_ = SIZE_MAX;
  size_t moved_ = 0;
  int ids_ = 0;
  int made_ = 0;
  int alive_ = 0;
};

}  // namespace xcomposer
