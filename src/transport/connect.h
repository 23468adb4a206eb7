#pragma once

#include <memory>
#include <optional>

#include "transport/launch.h"
#include "transport/secret.h"
#include "transport/transport.h"
#include "transport/transport_options.h"

namespace xcomposer {

/// Meets the other ranks at the rendezvous (c10d's TCPStore, kept by rank 0 or by torchrun's agent)
/// and connects to each of them with ZeroMQ. Returns when every rank has said hello. `launch` must
/// be distributed.
///
/// With a secret all traffic but the rendezvous itself (endpoints and the run's nonce) is encrypted
/// and authenticated by CURVE. Without one only loopback addresses are accepted (kUsage naming the
/// address). Throws kRank where a rank does not appear in time, is there twice or was lost
/// meanwhile, kTransport where an address cannot be used, a rank has another secret or speaks
/// another version of the protocol, or where this build has no ZeroMQ.
std::unique_ptr<Transport> ConnectRanks(const Launch& launch, const std::optional<Secret>& secret,
                                        const TransportOptions& options);

}  // namespace xcomposer
