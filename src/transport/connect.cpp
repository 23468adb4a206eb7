#include "transport/connect.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "transport/addresses.h"
#include "transport/deadline_worker.h"
#include "transport/rendezvous.h"
#include "transport/store.h"
#include "transport/timed_store.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Between two questions whether to go on; longer than it takes to connect across the world.
constexpr milliseconds kAsk{1000};

std::string Resolve(const std::string& host, TimePoint until) {
  // A worker of its own: the system's resolver may be busy for longer than anyone wants to wait.
  DeadlineWorker worker;
  const auto address = std::make_shared<std::string>();
  if (!worker.Run([host, address] { *address = ResolveHost(host); }, until)) {
    throw Error(ErrorKind::kTransport,
                StrCat("the host '", host, "' of the rendezvous could not be resolved in time"),
                {{"host", host}});
  }
  return *address;
}

/// Until somebody listens where the store shall be. False at `until`.
bool AwaitListener(const RendezvousOptions& meeting, const TcpStoreOptions& store,
                   TimePoint until) {
  while (steady_clock::now() < until) {
    RequireWanted(meeting);
    const TimePoint ask = std::min<TimePoint>(until, steady_clock::now() + kAsk);
    if (WaitForListener(store.address, store.port, ask)) return true;
  }
  return false;
}

/// `listen_on`: where this rank keeps the store; others connect to `address`.
std::shared_ptr<Store> OpenStore(const RendezvousOptions& meeting, TcpStoreOptions options,
                                 const std::optional<std::string>& listen_on,
                                 DeadlineWorker& worker, TimePoint until) {
  SocketHandle listener(-1);
  if (listen_on) {
    options.address = *listen_on;
    listener = ListenOn(*listen_on, options.port);
    options.listening_socket = listener.fd();
  } else if (!AwaitListener(meeting, options, until)) {
    throw StoreIsGone(meeting,
                      "is not there: nobody listens (is its process alive, is the port open, is "
                      "the address right?)");
  }
  options.timeout =
      std::max(milliseconds(1), std::chrono::ceil<milliseconds>(until - steady_clock::now()));
  const auto store = std::make_shared<std::shared_ptr<Store>>();
  const bool opened = worker.Run([options, store] { *store = OpenTcpStore(options); }, until);
  if (options.listening_socket) listener.Release();  // the store's now
  if (!opened) throw StoreIsGone(meeting, "does not answer as a store");
  return std::move(*store);
}

void RequireOneAddress(const std::string& address) {
  Require(address != "0.0.0.0" && address != "::", ErrorKind::kUsage, "cannot listen on ", address,
          ": it stands for every address, and the other ranks need one that leads here "
          "(--bind-address, or the rendezvous' own)");
}

}  // namespace

std::unique_ptr<Transport> ConnectRanks(const Launch& launch, const std::optional<Secret>& secret,
                                        const TransportOptions& options) {
  Check(launch.is_distributed(), "one rank has nobody to connect to");
  Require(
      options.rank_timeout >= milliseconds(100) && options.rank_timeout <= std::chrono::hours(24),
      ErrorKind::kUsage, "the rank timeout is ", options.rank_timeout.count(),
      " ms; expected 100 ms to a day");
  const milliseconds patience =
      options.connect_timeout.count() > 0 ? options.connect_timeout : options.rank_timeout;
  const TimePoint until = steady_clock::now() + patience;

  const std::string address = Resolve(launch.host, until);
  RequireSecretOrLoopback(address, StrCat("the rendezvous ", launch.host, ":", launch.port),
                          secret);
  const bool keeps_store = launch.rank == 0 && !launch.agent_store;
  RendezvousOptions meeting;
  meeting.rank = launch.rank;
  meeting.world_size = launch.world_size;
  meeting.place = StrCat(launch.host, ":", launch.port);
  meeting.prefix = StrCat("xcomposer/", launch.run_id, "/");
  meeting.agent_store = launch.agent_store;
  meeting.secret = secret;
  meeting.transport = options;
  if (!options.bind_address.empty()) {
    meeting.bind_address = Resolve(options.bind_address, until);
  } else {
    meeting.bind_address = keeps_store ? address : LocalAddressTowards(address, launch.port);
  }
  RequireSecretOrLoopback(meeting.bind_address, "the address to listen on", secret);
  RequireOneAddress(meeting.bind_address);
  log::Info("rank ", launch.rank, " of ", launch.world_size, " (", ToString(launch.launcher),
            ") listens on ", meeting.bind_address, ", rendezvous ", meeting.place);

  DeadlineWorker worker;
  const auto listen_on = keeps_store ? std::optional(meeting.bind_address) : std::nullopt;
  TcpStoreOptions store_options;
  store_options.address = address;
  store_options.port = launch.port;
  std::shared_ptr<Store> store = OpenStore(meeting, store_options, listen_on, worker, until);
  std::unique_ptr<Transport> transport = MeetRanks(store, worker, meeting, until);
  // Closing talks to nobody, but it joins the store's own thread.
  worker.Run([store = std::move(store)]() mutable { store.reset(); }, until);
  return transport;
}

}  // namespace xcomposer
