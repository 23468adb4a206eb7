#pragma once

#include <chrono>
#include <cstdint>

#include "transport/deadline_worker.h"
#include "transport/nccl_api.h"
#include "transport/transport.h"

namespace xcomposer {

struct NcclOptions {
  enum class End { kSends, kReceives };

  int peer = 0;                 ///< the rank at the other end
  End end = End::kSends;        ///< what this rank does
  CudaStream stream = nullptr;  ///< the link's own; on this thread's current device
  void* scratch = nullptr;      ///< device memory of 8 bytes for the warm-up
  std::chrono::milliseconds abort_timeout{2000};
};

/// One way for activations, from one rank's GPU to another's: a communicator of the two. Both make
/// their end at the same time, over the control plane's transport: that is where the unique id
/// travels, where lost ranks are found (a dead peer of NCCL can be silent for ever), and where a
/// failure of NCCL is told to all. NCCL's own traffic is neither encrypted nor authenticated.
///
/// Belongs to one thread at a time. After an error every later call throws; no call waits beyond
/// its deadline or beyond the end of the run.
class NcclLink {
 public:
  /// Makes the communicator and warms it up: NCCL connects on first use, which takes most of a
  /// second. `control` must live longer.
  NcclLink(NcclApi api, Transport& control, NcclOptions options, TimePoint until);
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;
  /// Ends the communicator, by force after an error.
  ~NcclLink();

  /// Puts the transfer on the stream; the memory must live until Wait returned.
  void Send(const void* data, int64_t bytes, TimePoint until);
  void Receive(void* data, int64_t bytes, TimePoint until);

  /// Returns when everything on the stream is over. At `until` ends the run with kDeadline.
  void Wait(TimePoint until);

  /// For messages of what follows.
  void SetPlace(uint32_t stage, uint64_t step);

 private:
  enum class Condition { kUsable, kBroken };

  bool sends() const { return options_.end == NcclOptions::End::kSends; }
  void ExchangeId(TimePoint until);
  void Transfer(void* data, int64_t bytes, TimePoint until);
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
};

}  // namespace xcomposer
