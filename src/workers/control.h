#pragma once

#include <cstdint>

#include "transport/transport.h"

namespace xcomposer {

/// What frames of Channel::kControl are, in FrameHeader::kind. A set-up value (8 bytes) travels
/// both ways before the first step; then rank 0 speaks and the others answer only the end.
enum class ControlKind : uint16_t {
  kValue = 1,  ///< of AgreeOnLeast
  kStep = 2,   ///< EncodeStep
  kEnd = 3,    ///< rank 0 is done; nothing follows
  kBye = 4,    ///< the answer to kEnd
};

FrameHeader ControlHeader(ControlKind kind, uint64_t step, const Payload& payload);

/// What a rank brings to AgreeOnLeast.
struct OwnValue {
  int64_t value = 0;
  int stage = 0;  ///< the first one that it drives, so that others can say what was lost with it
};

/// The smallest of all ranks' values, on every rank; returns when all have called it. Throws the
/// error that ended the transport, kDeadline at `until`.
int64_t AgreeOnLeast(Transport& transport, OwnValue own, TimePoint until);

}  // namespace xcomposer
