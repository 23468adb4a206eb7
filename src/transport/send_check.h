#pragma once

#include "transport/transport.h"

namespace xcomposer {

/// Throws kInternal where the frame contradicts itself or `to` is no rank of the run: a defect of
/// the caller, found before anything has left.
void CheckFrameToSend(int to, int world_size, const FrameHeader& header, const Payload& payload);

}  // namespace xcomposer
