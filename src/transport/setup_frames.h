#pragma once

#include <cstdint>

#include "transport/transport.h"

namespace xcomposer {

/// What frames of Channel::kSetup are, in FrameHeader::kind, in the order in which they travel.
enum class SetupKind : uint16_t {
  kIdentity = 1,   ///< what a rank runs, to rank 0; run_identity.h
  kAgreed = 2,     ///< rank 0: all run the same
  kDevices = 3,    ///< what a rank's devices have, to rank 0: a cluster's description
  kPlacement = 4,  ///< rank 0: which layers go to which stage
  kGpu = 5,        ///< which GPU holds a rank's rows, to the ranks beside it
  kUniqueId = 6,   ///< NCCL's, to the next rank; nccl_link.h
};

/// What a rank waits for. `what` completes "rank 1 did not send ... in time".
struct ExpectedSetup {
  SetupKind kind = SetupKind::kIdentity;
  int64_t most_bytes = 0;
  const char* what = "";
};

void SendSetup(Transport& transport, int to, SetupKind kind, Payload payload);

/// The next frame of the set-up. Where it is another than expected, or none comes until `until`,
/// ends the run with kTransport or kDeadline. Throws the reason of the end.
Payload ReceiveSetup(Transport& transport, int from, const ExpectedSetup& expected,
                     TimePoint until);

}  // namespace xcomposer
