#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/rendezvous.h"
#include "transport/transport.h"

namespace xcomposer {

inline TimePoint In(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

/// Long enough for everything that must happen; a test that needs it all has failed.
inline TimePoint Soon() { return In(std::chrono::seconds(20)); }

std::string TextOf(const Frame& frame);
void SendText(Transport& transport, int to, Channel channel, const std::string& text);

/// What the rank's transport died of; waits for it.
Error FailureOf(const Transport& transport);

/// Meets `options.size()` ranks over loopback, each in a thread, and returns what each got: its
/// transport or its error.
struct Outcome {
  std::unique_ptr<Transport> transport;
  std::optional<Error> error;
};
std::vector<Outcome> Meet(const std::vector<RendezvousOptions>& options,
                          const std::shared_ptr<Store>& store, TimePoint until = Soon());

/// Options of `world_size` ranks with a rank timeout that suits tests.
std::vector<RendezvousOptions> LoopbackRanks(int world_size);

/// The transports of as many ranks; the test fails where they do not meet.
std::vector<std::unique_ptr<Transport>> ConnectedRanks(
    const std::vector<RendezvousOptions>& options);

}  // namespace xcomposer
