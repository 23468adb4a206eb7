#pragma once

#include <memory>
#include <vector>

#include "transport/transport.h"

namespace xcomposer {

/// One transport per rank, for ranks that are threads of this process. Payloads pass by their
/// owner; no byte is copied and Send never waits. All ranks see one and the same first reason.
std::vector<std::unique_ptr<Transport>> MakeInProcessTransports(int world_size);

}  // namespace xcomposer
