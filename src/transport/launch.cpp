#include "transport/launch.h"

#include <unistd.h>

#include <charconv>
#include <string_view>

#include "base/check.h"

extern char** environ;

namespace xcomposer {
namespace {

using Environment = std::map<std::string, std::string>;

constexpr int kMostRanks = 65536;

[[noreturn]] void Fail(const std::string& place, const std::string& message) {
  throw Error(ErrorKind::kUsage, message, {{"variable", place}});
}

std::optional<std::string> Look(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

std::optional<int> LookNumber(const Environment& environment, const std::string& name) {
  const std::optional<std::string> text = Look(environment, name);
  if (!text) return std::nullopt;
  int value = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, code] = std::from_chars(text->data(), end, value);
  if (code != std::errc() || rest != end) {
    Fail(name, StrCat(name, " is '", *text, "'; expected a number"));
  }
  return value;
}

// How one launcher calls its numbers.
struct Names {
  Launcher launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
};

constexpr Names kFlagNames = {Launcher::kFlags, "--rank", "--world-size", ""};
constexpr Names kLaunchers[] = {{Launcher::kTorchrun, "RANK", "WORLD_SIZE", "LOCAL_RANK"},
                                {Launcher::kMpirun, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                 "OMPI_COMM_WORLD_LOCAL_RANK"},
                                {Launcher::kSrun, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"}};

struct Numbers {
  std::optional<int> rank;
  std::optional<int> world_size;
  std::optional<int> local_rank;
};

Launch Checked(const Names& names, const Numbers& numbers) {
  if (!numbers.rank || !numbers.world_size) {
    const char* missing = numbers.rank ? names.world_size : names.rank;
    Fail(missing, StrCat(numbers.rank ? names.rank : names.world_size, " is given, but ", missing,
                         " is not; both or none are needed"));
  }
  Launch launch;
  launch.launcher = names.launcher;
  launch.rank = *numbers.rank;
  launch.world_size = *numbers.world_size;
  launch.local_rank = numbers.local_rank.value_or(0);
  if (launch.world_size < 1 || launch.world_size > kMostRanks) {
    Fail(names.world_size,
         StrCat(names.world_size, " is ", launch.world_size, "; expected 1 to ", kMostRanks));
  }
  if (launch.rank < 0 || launch.rank >= launch.world_size) {
    Fail(names.rank, StrCat(names.rank, " is ", launch.rank, " with ", names.world_size, " ",
                            launch.world_size, "; expected 0 to ", launch.world_size - 1));
  }
  if (launch.local_rank < 0 || launch.local_rank > launch.rank) {
    Fail(names.local_rank, StrCat(names.local_rank, " is ", launch.local_rank, " with ", names.rank,
                                  " ", launch.rank, "; expected 0 to ", launch.rank));
  }
  return launch;
}

// The launcher's own numbers; nothing where it did not start this process.
std::optional<Launch> FromVariables(const Names& names, const Environment& environment) {
  const Numbers numbers = {LookNumber(environment, names.rank),
                           LookNumber(environment, names.world_size),
                           LookNumber(environment, names.local_rank)};
  if (!numbers.rank && !numbers.world_size) return std::nullopt;
  return Checked(names, numbers);
}

std::optional<Launch> FromFlags(const LaunchFlags& flags, const Environment& environment) {
  if (!flags.rank && !flags.world_size) return std::nullopt;
  const Launch launch = Checked(kFlagNames, {flags.rank, flags.world_size, std::nullopt});
  // Slurm sets its variables in every shell of an allocation; the other two only for ranks of
  // theirs.
  for (const Names& names : kLaunchers) {
    if (names.launcher == Launcher::kSrun) continue;
    const std::optional<Launch> started = FromVariables(names, environment);
    if (!started) continue;
    if (started->rank != launch.rank || started->world_size != launch.world_size) {
      Fail(names.rank, StrCat("the flags say rank ", launch.rank, " of ", launch.world_size, ", ",
                              names.rank, " and ", names.world_size, " say rank ", started->rank,
                              " of ", started->world_size, "; leave one of them out"));
    }
  }
  return launch;
}

Launch FindLaunch(const LaunchFlags& flags, const Environment& environment) {
  if (const std::optional<Launch> launch = FromFlags(flags, environment)) return *launch;
  for (const Names& names : kLaunchers) {
    if (const std::optional<Launch> launch = FromVariables(names, environment)) return *launch;
  }
  return {};
}

// MASTER_ADDR and MASTER_PORT, which torchrun sets and users of the others export.
std::optional<HostPort> MasterOf(const Environment& environment) {
  const std::optional<std::string> address = Look(environment, "MASTER_ADDR");
  const std::optional<std::string> port = Look(environment, "MASTER_PORT");
  if (!address && !port) return std::nullopt;
  if (!address || !port) {
    const char* missing = address ? "MASTER_PORT" : "MASTER_ADDR";
    Fail(missing, StrCat(address ? "MASTER_ADDR" : "MASTER_PORT", " is set, but ", missing,
                         " is not; both or none are needed"));
  }
  const bool is_v6 = address->find(':') != std::string::npos;
  return ParseHostPort(is_v6 ? StrCat("[", *address, "]:", *port) : StrCat(*address, ":", *port),
                       "MASTER_ADDR:MASTER_PORT");
}

bool UsesAgentStore(const Environment& environment) {
  const std::optional<std::string> text = Look(environment, "TORCHELASTIC_USE_AGENT_STORE");
  if (!text || *text == "False" || *text == "false" || *text == "0") return false;
  if (*text == "True" || *text == "true" || *text == "1") return true;
  Fail("TORCHELASTIC_USE_AGENT_STORE",
       StrCat("TORCHELASTIC_USE_AGENT_STORE is '", *text, "'; expected True or False"));
}

}  // namespace

const char* ToString(Launcher launcher) {
  switch (launcher) {
    case Launcher::kNone:
      return "no launcher";
    case Launcher::kFlags:
      return "flags";
    case Launcher::kTorchrun:
      return "torchrun";
    case Launcher::kMpirun:
      return "mpirun";
    case Launcher::kSrun:
      return "srun";
  }
  return "no launcher";
}

HostPort ParseHostPort(const std::string& text, const std::string& what) {
  const auto fail = [&] {
    Fail(what, StrCat(what, " is '", text, "'; expected HOST:PORT, for example 10.0.0.1:29500 or ",
                      "[fd00::1]:29500"));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) fail();
  std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find_first_of(":[]") != std::string::npos) fail();
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data() + colon + 1, end, port);
  if (code != std::errc() || rest != end || port == 0) fail();
  return {host, port};
}

Launch ReadLaunch(const LaunchFlags& flags, const Environment& environment) {
  Launch launch = FindLaunch(flags, environment);
  if (flags.rendezvous) {
    Require(
        launch.launcher != Launcher::kNone, ErrorKind::kUsage,
        "--rendezvous is given, but neither --rank and --world-size nor a launcher's variables");
    const HostPort place = ParseHostPort(*flags.rendezvous, "--rendezvous");
    launch.host = place.host;
    launch.port = place.port;
  } else if (launch.launcher != Launcher::kNone) {
    if (const std::optional<HostPort> master = MasterOf(environment)) {
      launch.host = master->host;
      launch.port = master->port;
      launch.agent_store = launch.launcher == Launcher::kTorchrun && UsesAgentStore(environment);
    }
  }
  if (launch.is_distributed() && launch.host.empty()) {
    Fail("--rendezvous",
         StrCat("this is rank ", launch.rank, " of ", launch.world_size, " (",
                ToString(launch.launcher), "), but nobody said where the ranks meet. Give ",
                "--rendezvous HOST:PORT, or set MASTER_ADDR and MASTER_PORT; or give --rank 0 ",
                "--world-size 1 for a run of its own"));
  }
  if (launch.agent_store) {
    launch.run_id = StrCat(Look(environment, "TORCHELASTIC_RUN_ID").value_or("none"), "/",
                           Look(environment, "TORCHELASTIC_RESTART_COUNT").value_or("0"));
  }
  return launch;
}

std::map<std::string, std::string> ProcessEnvironment() {
  std::map<std::string, std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

}  // namespace xcomposer
