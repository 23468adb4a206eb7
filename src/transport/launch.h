#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace xcomposer {

/// What the flags of the command line say; each may be absent.
struct LaunchFlags {
  std::optional<int> rank;                ///< --rank
  std::optional<int> world_size;          ///< --world-size
  std::optional<std::string> rendezvous;  ///< --rendezvous HOST:PORT
};

enum class Launcher { kNone, kFlags, kTorchrun, kMpirun, kSrun };

const char* ToString(Launcher launcher);

/// Where this process stands among the processes of the run.
struct Launch {
  Launcher launcher = Launcher::kNone;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  ///< among the processes of this machine; 0 where the launcher does not say
  std::string host;    ///< of the rendezvous; empty where world_size is 1 and nobody gave one
  uint16_t port = 0;
  /// torchrun's agent keeps a store at the rendezvous: rank 0 must connect to it as all others do.
  bool agent_store = false;
  /// Tells runs apart that share one store: torchrun's run and restart. Empty elsewhere.
  std::string run_id;

  bool is_distributed() const { return world_size > 1; }
};

/// Reads the flags and the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
/// MASTER_PORT, TORCHELASTIC_USE_AGENT_STORE), Open MPI's mpirun (OMPI_COMM_WORLD_RANK, _SIZE,
/// _LOCAL_RANK) and srun (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID), in this order: the first that
/// says something counts. --rendezvous goes with every launcher and before MASTER_ADDR and
/// MASTER_PORT, which go with every launcher too. Throws kUsage for what is half set, out of range
/// or contradicts itself, naming the flag or variable.
Launch ReadLaunch(const LaunchFlags& flags, const std::map<std::string, std::string>& environment);

/// This process's environment, for ReadLaunch.
std::map<std::string, std::string> ProcessEnvironment();

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

/// "host:port", "1.2.3.4:29500" or "[::1]:29500". Throws kUsage, calling it `what`.
HostPort ParseHostPort(const std::string& text, const std::string& what);

}  // namespace xcomposer
