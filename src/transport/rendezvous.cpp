#include "transport/rendezvous.h"

#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "transport/addresses.h"
#include "transport/links.h"
#include "transport/loss_notice.h"
#include "transport/timed_store.h"
#include "transport/wire_transport.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPause{10};  // between two looks into the store
constexpr milliseconds kFarewell{500};

std::string ToHex(const RunNonce& nonce) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : nonce) {
    text += kDigits[std::to_integer<int>(byte) >> 4];
    text += kDigits[std::to_integer<int>(byte) & 15];
  }
  return text;
}

std::optional<RunNonce> FromHex(const std::string& text) {
  RunNonce nonce{};
  if (text.size() != 2 * nonce.size()) return std::nullopt;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view digits = "0123456789abcdef";
    const size_t digit = digits.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    nonce[i / 2] |= static_cast<std::byte>(digit << (i % 2 == 0 ? 4 : 0));
  }
  return nonce;
}

RunNonce DrawNonce() {
  RunNonce nonce{};
  Require(getrandom(nonce.data(), nonce.size(), 0) == static_cast<ssize_t>(nonce.size()),
          ErrorKind::kTransport, "the system gave no random numbers");
  return nonce;
}

RunNonce AgreeOnNonce(TimedStore& store, const RendezvousOptions& options, TimePoint until) {
  if (options.rank == 0) {
    const RunNonce nonce = DrawNonce();
    store.Set("nonce", ToHex(nonce));
    return nonce;
  }
  while (true) {
    RequireWanted(options);
    ThrowIfNoticed(store, options);
    if (const std::optional<std::string> text = store.TryGet("nonce")) {
      const std::optional<RunNonce> nonce = FromHex(*text);
      Require(nonce.has_value(), ErrorKind::kTransport, "the store at ", options.place, " holds ",
              text->size(), " bytes as the run's nonce; expected 32 hexadecimal digits");
      return *nonce;
    }
    if (steady_clock::now() >= until) {
      throw Error(ErrorKind::kRank,
                  StrCat("rank 0 did not appear in time at the rendezvous ", options.place),
                  {{"rank", "0"}, {"address", options.place}, {"stage", "0"}, {"step", "0"}});
    }
    std::this_thread::sleep_for(kPause);
  }
}

std::string EndpointKey(int rank) { return StrCat("endpoint/", rank); }

std::unique_ptr<Links> MakeLinks(const RendezvousOptions& options, const RunNonce& nonce) {
  const TransportOptions& transport = options.transport;
  LinkOptions link;
  link.rank = options.rank;
  link.world_size = options.world_size;
  link.bind_address = options.bind_address;
  if (transport.bind_port != 0) {
    const int port = transport.bind_port + options.rank;
    Require(port <= 65535, ErrorKind::kUsage, "rank ", options.rank, " would listen on port ",
            port);
    link.bind_port = static_cast<uint16_t>(port);
  }
  link.max_message_bytes = std::max<int64_t>(transport.max_payload_bytes, 65536);
  link.queue_frames = static_cast<int>(std::min<int64_t>(transport.window_frames, 1 << 20)) + 16;
  link.linger = std::min(transport.rank_timeout / 4, milliseconds(300));
  link.nonce = nonce;
  link.secret = options.secret;
  return MakeZeroMqLinks(link);
}

void AddWhoAppeared(TimedStore& store, const RendezvousOptions& options, WireTransport& transport,
                    std::vector<int>& missing) {
  std::erase_if(missing, [&](int rank) {
    const std::optional<std::string> endpoint = store.TryGet(EndpointKey(rank));
    if (!endpoint) return false;
    const std::string address = AddressOfEndpoint(*endpoint);
    if (address.empty()) {
      throw Error(
          ErrorKind::kTransport,
          StrCat("the store at ", options.place, " holds ", endpoint->size(),
                 " bytes as the endpoint of rank ", rank, " that are no tcp://address:port"),
          {{"rank", StrCat(rank)}});
    }
    RequireSecretOrLoopback(address, StrCat("the endpoint of rank ", rank), options.secret);
    transport.AddPeer(rank, *endpoint);
    return true;
  });
}

/// Listens, and publishes where.
std::unique_ptr<WireTransport> Appear(TimedStore& store, const RendezvousOptions& options,
                                      TimePoint until) {
  const RunNonce nonce = AgreeOnNonce(store, options, until);
  std::unique_ptr<Links> links = MakeLinks(options, nonce);
  const std::string endpoint = links->endpoint();
  auto transport = std::make_unique<WireTransport>(
      std::move(links), WireOptions{options.rank, options.world_size, nonce, options.transport});
  store.Set(EndpointKey(options.rank), endpoint);
  return transport;
}

std::vector<int> Others(const RendezvousOptions& options) {
  std::vector<int> others;
  for (int rank = 0; rank < options.world_size; ++rank) {
    if (rank != options.rank) others.push_back(rank);
  }
  return others;
}

/// Connects to the others as they appear, and says hello once all have.
void FindOthers(TimedStore& store, const RendezvousOptions& options, WireTransport& transport,
                TimePoint until) {
  std::vector<int> missing = Others(options);
  while (steady_clock::now() < until && !transport.failure()) {
    RequireWanted(options);
    ThrowIfNoticed(store, options);
    AddWhoAppeared(store, options, transport, missing);
    if (missing.empty()) break;
    std::this_thread::sleep_for(kPause);
  }
  // Who was heard to differ may not have been looked up yet, and should hear why the run ends.
  if (transport.failure()) AddWhoAppeared(store, options, transport, missing);
  // Rank 0 closes the store once it has every hello; nobody needs it any more then.
  if (missing.empty()) transport.SayHello();
}

}  // namespace

void RequireWanted(const RendezvousOptions& options) {
  Require(!options.transport.stop || !options.transport.stop(), ErrorKind::kCancelled, "rank ",
          options.rank, " was asked to end while the ranks met");
}

void RequireSecretOrLoopback(const std::string& address, const std::string& what,
                             const std::optional<Secret>& secret) {
  if (secret || IsLoopback(address)) return;
  throw Error(
      ErrorKind::kUsage,
      StrCat(what, " is ", address, ", which other machines can reach, and there is no ",
             "secret. Give every rank the same one with --secret-file or XCOMPOSER_SECRET, ",
             "or use 127.0.0.1"),
      {{"address", address}});
}

std::unique_ptr<Transport> MeetRanks(std::shared_ptr<Store> store, DeadlineWorker& worker,
                                     const RendezvousOptions& options, TimePoint until) {
  RequireSecretOrLoopback(options.bind_address, "the address to listen on", options.secret);
  TimedStore timed(std::move(store), worker, options, until);
  if (timed.Add(StrCat("claim/", options.rank), 1) != 1) {
    throw Error(ErrorKind::kRank,
                StrCat("two processes claim rank ", options.rank, " at the rendezvous ",
                       options.place, "; give every process its own --rank"),
                {{"rank", StrCat(options.rank)}});
  }
  std::unique_ptr<WireTransport> transport;
  try {
    transport = Appear(timed, options, until);
    FindOthers(timed, options, *transport, until);
    while (!transport->WithoutHello().empty() && steady_clock::now() < until &&
           !transport->failure()) {
      RequireWanted(options);
      std::this_thread::sleep_for(kPause);
    }
    transport->WaitUntilConnected(until);
    return transport;
  } catch (const Error& error) {
    if (transport) transport->Abort(error);  // so that those who are connected learn the reason
    const Error reason = transport ? *transport->failure() : error;
    // Who was asked to end does not wait for those who have not come.
    const TimePoint end = reason.kind() == ErrorKind::kCancelled
                              ? std::min(until, steady_clock::now() + kFarewell)
                              : until;
    LeaveMeeting(timed, options, reason, transport ? transport->WithoutHello() : Others(options),
                 end);
    // What was told last must be on its way before the connections close.
    if (transport) {
      std::this_thread::sleep_for(std::min(options.transport.rank_timeout / 4, milliseconds(500)));
    }
    throw Error(reason);
  }
}

}  // namespace xcomposer
