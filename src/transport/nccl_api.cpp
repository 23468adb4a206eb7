#include "transport/nccl_api.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstring>

namespace xcomposer {
namespace {

static_assert(sizeof(ncclUniqueId) == sizeof(NcclUniqueId));

// The code of this thread's last failure, for last_error.
thread_local ncclResult_t last_failure = ncclSuccess;

NcclState StateOf(ncclResult_t result) {
  if (result == ncclSuccess) return NcclState::kDone;
  if (result == ncclInProgress) return NcclState::kInProgress;
  last_failure = result;
  return NcclState::kFailed;
}

ncclComm_t CommunicatorOf(NcclCommunicator c) { return static_cast<ncclComm_t>(c); }
cudaStream_t StreamOf(CudaStream stream) { return static_cast<cudaStream_t>(stream); }

NcclState Init(NcclCommunicator& communicator, int ranks, const NcclUniqueId& id, int rank) {
  ncclUniqueId theirs;
  std::memcpy(&theirs, id.bytes.data(), sizeof(theirs));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t made = nullptr;
  const ncclResult_t result = ncclCommInitRankConfig(&made, ranks, theirs, rank, &config);
  communicator = made;
  return StateOf(result);
}

NcclState MakeUniqueId(NcclUniqueId& id) {
  ncclUniqueId theirs;
  const NcclState state = StateOf(ncclGetUniqueId(&theirs));
  std::memcpy(id.bytes.data(), &theirs, sizeof(theirs));
  return state;
}

NcclState StateOfCommunicator(NcclCommunicator communicator) {
  ncclResult_t inner = ncclSuccess;
  const NcclState outer = StateOf(ncclCommGetAsyncError(CommunicatorOf(communicator), &inner));
  return outer == NcclState::kDone ? StateOf(inner) : outer;
}

NcclState QueryStream(CudaStream stream) {
  const cudaError_t code = cudaStreamQuery(StreamOf(stream));
  if (code == cudaSuccess) return NcclState::kDone;
  if (code == cudaErrorNotReady) return NcclState::kInProgress;
  last_failure = ncclUnhandledCudaError;
  return NcclState::kFailed;
}

std::string LastError(NcclCommunicator communicator) {
  std::string text = ncclGetErrorString(last_failure);
  const char* detail = ncclGetLastError(CommunicatorOf(communicator));
  if (detail != nullptr && *detail != '\0') text += std::string(": ") + detail;
  return text;
}

}  // namespace

std::optional<NcclApi> SystemNccl() {
  NcclApi api;
  api.make_unique_id = MakeUniqueId;
  api.init = Init;
  api.state = StateOfCommunicator;
  api.send = [](const void* data, size_t bytes, int peer, NcclCommunicator communicator,
                CudaStream stream) {
    return StateOf(
        ncclSend(data, bytes, ncclInt8, peer, CommunicatorOf(communicator), StreamOf(stream)));
  };
  api.receive = [](void* data, size_t bytes, int peer, NcclCommunicator communicator,
                   CudaStream stream) {
    return StateOf(
        ncclRecv(data, bytes, ncclInt8, peer, CommunicatorOf(communicator), StreamOf(stream)));
  };
  api.query_stream = QueryStream;
  api.finalize = [](NcclCommunicator c) { return StateOf(ncclCommFinalize(CommunicatorOf(c))); };
  api.destroy = [](NcclCommunicator c) { return StateOf(ncclCommDestroy(CommunicatorOf(c))); };
  api.abort = [](NcclCommunicator c) { return StateOf(ncclCommAbort(CommunicatorOf(c))); };
  api.last_error = LastError;
  return api;
}

}  // namespace xcomposer
