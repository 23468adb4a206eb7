#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "transport/nccl_api.h"

namespace xcomposer {

/// What one rank's NCCL does, by script. Lives as long as anything that may still call it.
struct FakeNccl {
  // The script.
  int polls_until_done = 0;  ///< how often a call that goes on says so
  std::string fails;         ///< the name of the call that fails
  bool hangs = false;        ///< communicator calls never end
  int stream_polls = 0;      ///< how often the stream says that it is busy
  bool stream_hangs = false;
  bool stream_fails = false;
  bool fails_while_busy = false;        ///< an error in the communicator while its stream hangs
  std::shared_future<void> abort_ends;  ///< abort blocks until then, where valid

  // What happened.
  std::vector<std::string> calls;
  NcclUniqueId id;
  std::atomic<int> aborted{0};
  int destroyed = 0;
  int polls_left = 0;
  int stream_polls_left = 0;

  NcclState Call(const std::string& name) {
    calls.push_back(name);
    if (fails == name) return NcclState::kFailed;
    polls_left = polls_until_done;
    stream_polls_left = stream_polls;
    return hangs || polls_left > 0 ? NcclState::kInProgress : NcclState::kDone;
  }
};

inline NcclApi ApiOf(const std::shared_ptr<FakeNccl>& fake) {
  NcclApi api;
  api.make_unique_id = [fake](NcclUniqueId& id) {
    if (fake->fails == "id") return NcclState::kFailed;
    id.bytes.fill('u');
    return NcclState::kDone;
  };
  api.init = [fake](NcclCommunicator& communicator, int ranks, const NcclUniqueId& id, int rank) {
    communicator = fake.get();
    fake->id = id;
    return fake->Call("init " + std::to_string(rank) + "/" + std::to_string(ranks));
  };
  api.state = [fake](NcclCommunicator) {
    if (fake->fails_while_busy && fake->stream_hangs && fake->polls_left == 0) {
      return NcclState::kFailed;
    }
    if (fake->hangs) return NcclState::kInProgress;
    return fake->polls_left-- > 1 ? NcclState::kInProgress
                                  : (fake->polls_left = 0, NcclState::kDone);
  };
  const auto transfer = [fake](const char* what, size_t bytes, int peer) {
    return fake->Call(std::string(what) + std::to_string(peer) + ":" + std::to_string(bytes));
  };
  api.send = [transfer](const void*, size_t bytes, int peer, NcclCommunicator, CudaStream) {
    return transfer("send>", bytes, peer);
  };
  api.receive = [transfer](void*, size_t bytes, int peer, NcclCommunicator, CudaStream) {
    return transfer("receive<", bytes, peer);
  };
  api.query_stream = [fake](CudaStream) {
    if (fake->stream_fails) return NcclState::kFailed;
    if (fake->stream_hangs) return NcclState::kInProgress;
    return fake->stream_polls_left-- > 0 ? NcclState::kInProgress : NcclState::kDone;
  };
  api.finalize = [fake](NcclCommunicator) { return fake->Call("finalize"); };
  api.destroy = [fake](NcclCommunicator) {
    ++fake->destroyed;
    return NcclState::kDone;
  };
  api.abort = [fake](NcclCommunicator) {
    if (fake->abort_ends.valid()) fake->abort_ends.wait();
    ++fake->aborted;
    return NcclState::kDone;
  };
  api.last_error = [](NcclCommunicator) { return std::string("the fake's reason"); };
  return api;
}

}  // namespace xcomposer
