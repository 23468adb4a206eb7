#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "transport/deadline_worker.h"
#include "transport/nccl_api.h"
#include "transport/transport.h"

namespace xcomposer {

struct NcclOptions {
  CudaStream stream = nullptr;  ///< the links' own; on this thread's current device
  void* scratch = nullptr;      ///< device memory of 16 bytes for the warm-up
  std::vector<int> peers;       ///< the ranks that this one will exchange bytes with, in any order
  std::chrono::milliseconds abort_timeout{2000};
};

/// Activations from GPU to GPU. Every rank of the run holds one, made at the same time, over the
/// control plane's transport: that is where the unique id travels, where lost ranks are found (a
/// dead peer of NCCL can be silent for ever), and where a failure of NCCL is told to all. NCCL's
/// own traffic is neither encrypted nor authenticated.
///
/// Belongs to one thread. After an error every later call throws; no call waits beyond its deadline
/// or beyond the end of the run.
class NcclLinks {
 public:
  /// Makes the communicator and warms up the way to each peer: NCCL connects on first use, which
  /// takes most of a second. `rank` a is a peer of b exactly if b is one of a.
  NcclLinks(NcclApi api, Transport& control, NcclOptions options, TimePoint until);
  NcclLinks(const NcclLinks&) = delete;
  NcclLinks& operator=(const NcclLinks&) = delete;
  /// Ends the communicator, by force after an error.
  ~NcclLinks();

  /// Puts the transfer on the stream; the memory must live until Wait returned. `stage` and `step`
  /// are for messages.
  void Send(int peer, const void* data, int64_t bytes, TimePoint until);
  void Receive(int peer, void* data, int64_t bytes, TimePoint until);

  /// Returns when everything on the stream is over. At `until` ends the run with kDeadline.
  void Wait(TimePoint until);

  /// For messages of what follows.
  void SetPlace(uint32_t stage, uint64_t step);

 private:
  enum class Condition { kUsable, kBroken };

  void ExchangeId(TimePoint until);
  void WarmUp(TimePoint until);
  /// Finishes a call that returned `state`: polls while it goes on.
  void Finish(NcclState state, const char* what, TimePoint until);
  void RequireUsable() const;
  [[noreturn]] void Break(const Error& reason);
  void AbortCommunicator();
  Error Failure(ErrorKind kind, const std::string& message) const;

  const NcclApi api_;
  Transport& control_;
  const NcclOptions options_;
  NcclUniqueId id_;
  NcclCommunicator communicator_ = nullptr;
  Condition condition_ = Condition::kUsable;
  uint32_t stage_ = 0;
  uint64_t step_ = 0;
  int peer_ = -1;  // of the last transfer
};

}  // namespace xcomposer
