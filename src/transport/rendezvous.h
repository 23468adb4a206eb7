#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/deadline_worker.h"
#include "transport/secret.h"
#include "transport/store.h"
#include "transport/transport.h"
#include "transport/transport_options.h"

namespace xcomposer {

struct RendezvousOptions {
  int rank = 0;
  int world_size = 1;
  std::string place;         ///< for messages: "host:port"
  std::string bind_address;  ///< numeric
  std::string prefix;        ///< of every key, where the store serves others too
  bool agent_store = false;  ///< torchrun's agent keeps the store; else rank 0 does
  std::optional<Secret> secret;
  TransportOptions transport;
};

/// Meets the other ranks in the store and connects to them. What passes through the store: a count
/// of the processes that claim each rank, the run's nonce, each rank's endpoint, and where the
/// meeting fails the number of the rank that is the cause. See ConnectRanks for errors.
std::unique_ptr<Transport> MeetRanks(std::shared_ptr<Store> store, DeadlineWorker& worker,
                                     const RendezvousOptions& options, TimePoint until);

/// Throws kCancelled where this rank is asked to end.
void RequireWanted(const RendezvousOptions& options);

/// Throws kUsage naming the address where it is not loopback and there is no secret.
void RequireSecretOrLoopback(const std::string& address, const std::string& what,
                             const std::optional<Secret>& secret);

}  // namespace xcomposer
