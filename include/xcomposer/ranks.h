#pragma once

#include <functional>
#include <optional>
#include <string>

#include "xcomposer/export.h"

namespace xcomposer {

struct EngineOptions;

/// The processes of a run over several: each is a rank, loads its own stages and nothing else, and
/// is started with the same options but for its number. Rank 0 takes the requests and holds the
/// first stage; the others call Serve.
struct RankOptions {
  std::optional<int> rank;
  std::optional<int> world_size;  ///< absent, or 1: one process
  std::string rendezvous;         ///< "host:port" where rank 0 listens

  /// Also read the variables of torchrun, mpirun and srun, and XCOMPOSER_SECRET.
  bool from_environment = false;

  /// What all ranks know and nobody else does, 16 to 4096 bytes; traffic is encrypted with it.
  /// Without one only loopback addresses are accepted.
  std::string secret;
  std::string secret_file;  ///< read where `secret` is empty

  /// Of rank 0, asked about every second or more often while the ranks meet and load, by any
  /// thread; true ends the run, for all that have met with kCancelled. Not asked while a host name
  /// is resolved or a store that listens does not answer. Serve has its own.
  std::function<bool()> stop;

  double timeout_s = 10;         ///< a rank that is silent for so long is lost
  double connect_timeout_s = 0;  ///< until all ranks have come; 0: as timeout_s

  /// The one local address to listen on, for the rendezvous too where this is rank 0. Empty: rank 0
  /// listens on the rendezvous' own address, others on the one from which they reach it.
  std::string bind_address;
  /// Rank r listens on this port plus r, for firewalls; 0: any that is free.
  int bind_port = 0;
};

/// This process's rank; 0 in a run of one process. Throws kUsage for options or variables that are
/// half set or contradict each other.
XCOMPOSER_API int RankOf(const RankOptions& options);

/// Runs a rank other than 0: loads its stages and serves them until rank 0's engine goes, then
/// returns. Throws as Engine::Load, and kRank or kTransport (naming rank, stage and step) where
/// another rank was lost; the process may call it again. `stop`, asked every second or oftener by
/// any thread, may end the run: all ranks that have met get kCancelled, at once while they load,
/// and later unless rank 0 ends it within two seconds. Ranks that do not come are waited for no
/// longer than `connect_timeout_s`.
XCOMPOSER_API void Serve(const EngineOptions& options, const std::function<bool()>& stop = {});

}  // namespace xcomposer
