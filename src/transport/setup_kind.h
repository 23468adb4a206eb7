#pragma once

#include <cstdint>

namespace xcomposer {

/// What frames of Channel::kSetup are, in FrameHeader::kind, in the order in which they travel.
enum class SetupKind : uint16_t {
  kIdentity = 1,   ///< what a rank runs, to rank 0; run_identity.h
  kAgreed = 2,     ///< rank 0: all run the same
  kUniqueId = 3,   ///< rank 0: NCCL's; nccl_links.h
  kDevices = 4,    ///< what a rank's devices have, to rank 0: a cluster's description
  kPlacement = 5,  ///< rank 0: which layers go to which stage
};

}  // namespace xcomposer
