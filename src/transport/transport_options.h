#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace xcomposer {

/// How a run over several processes waits and what it accepts. The same on every rank.
struct TransportOptions {
  /// A rank that was not heard of for this long is lost. Heartbeats come at a tenth of it, from a
  /// thread that does nothing else, so a rank that computes for minutes is not lost.
  std::chrono::milliseconds rank_timeout{10'000};

  /// Until every rank has connected, counted from each rank's own start; 0: as rank_timeout.
  std::chrono::milliseconds connect_timeout{0};

  /// Asked once a second or more often while the ranks meet, but for while a host name is resolved
  /// or a store that listens does not answer; true ends the meeting here (kCancelled).
  std::function<bool()> stop;

  /// How long Send waits for a living peer that takes nothing.
  std::chrono::milliseconds send_timeout{600'000};

  /// A frame with a larger payload, or with more rows, ends the run before anything is made of it.
  int64_t max_payload_bytes = int64_t{1} << 31;
  int64_t max_rows = int64_t{1} << 24;

  /// What may be on its way to one peer on one channel before Send waits. One frame always
  /// may beside less than a quarter of it.
  int64_t window_bytes = int64_t{256} << 20;
  int64_t window_frames = 1024;

  /// The local address to listen on, for the rendezvous' store too where this rank keeps it. Empty:
  /// rank 0 listens on the rendezvous' own address, every other rank on the one that leads there.
  std::string bind_address;

  /// The port to listen on is this one plus the rank, for firewalls; 0: any that is free.
  uint16_t bind_port = 0;
};

}  // namespace xcomposer
