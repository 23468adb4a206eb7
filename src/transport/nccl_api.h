#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace xcomposer {

/// NCCL's communicator and CUDA's stream, by address: no header of either is needed to talk about
/// them.
using NcclCommunicator = void*;
using CudaStream = void*;

struct NcclUniqueId {
  std::array<char, 128> bytes{};
};

enum class NcclState {
  kDone,
  kInProgress,  ///< a non-blocking call goes on; see NcclApi::state
  kFailed,
};

/// The part of NCCL and CUDA that hand-over between GPUs uses, as a table, so that everything above
/// it is tested against one that fails, hangs and is late. No call blocks but abort.
struct NcclApi {
  std::function<NcclState(NcclUniqueId& id)> make_unique_id;
  /// A non-blocking communicator on the current device of this thread.
  std::function<NcclState(NcclCommunicator& communicator, int ranks, const NcclUniqueId& id,
                          int rank)>
      init;
  /// What goes on in the communicator, or went wrong since it was made.
  std::function<NcclState(NcclCommunicator communicator)> state;
  std::function<NcclState(const void* data, size_t bytes, int peer, NcclCommunicator communicator,
                          CudaStream stream)>
      send;
  std::function<NcclState(void* data, size_t bytes, int peer, NcclCommunicator communicator,
                          CudaStream stream)>
      receive;
  /// Whether everything on the stream is over.
  std::function<NcclState(CudaStream stream)> query_stream;
  std::function<NcclState(NcclCommunicator communicator)> finalize;
  std::function<NcclState(NcclCommunicator communicator)> destroy;
  /// Frees the communicator and ends its kernels. May block where a peer is silent.
  std::function<NcclState(NcclCommunicator communicator)> abort;
  /// What is known of the last failure of this thread or communicator (which may be null).
  std::function<std::string(NcclCommunicator communicator)> last_error;
};

/// The system's NCCL; nothing where this build has none.
std::optional<NcclApi> SystemNccl();

}  // namespace xcomposer
