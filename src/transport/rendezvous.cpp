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
#include "transport/wire_transport.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPause{10};  // between two looks into the store

Error RankZeroIsSilent(const RendezvousOptions& options, const std::string& what) {
  return Error(ErrorKind::kRank, StrCat("rank 0 at the rendezvous ", options.place, " ", what),
               {{"rank", "0"}, {"address", options.place}, {"stage", "0"}, {"step", "0"}});
}

// The store with a deadline for every call.
class TimedStore {
 public:
  TimedStore(std::shared_ptr<Store> store, DeadlineWorker& worker, const RendezvousOptions& options,
             TimePoint until)
      : store_(std::move(store)), worker_(worker), options_(options), until_(until) {}

  void Set(const std::string& key, const std::string& value) {
    Call<bool>([key, value](Store& store) {
      store.Set(key, value);
      return true;
    });
  }
  std::optional<std::string> TryGet(const std::string& key) {
    return Call<std::optional<std::string>>([key](Store& store) { return store.TryGet(key); });
  }
  int64_t Count(const std::string& key) {
    return Call<int64_t>([key](Store& store) { return store.Add(key, 1); });
  }

 private:
  template <typename Result>
  Result Call(std::function<Result(Store&)> call) {
    const auto result = std::make_shared<Result>();
    bool done = false;
    try {
      done = worker_.Run(
          [store = store_, result, call = std::move(call)] { *result = call(*store); }, until_);
    } catch (const Error& error) {
      throw RankZeroIsSilent(options_, StrCat("was lost: ", error.what()));
    }
    if (!done) throw RankZeroIsSilent(options_, "does not answer (is its process stopped?)");
    return std::move(*result);
  }

  const std::shared_ptr<Store> store_;
  DeadlineWorker& worker_;
  const RendezvousOptions& options_;
  const TimePoint until_;
};

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
  const std::string key = options.prefix + "nonce";
  if (options.rank == 0) {
    const RunNonce nonce = DrawNonce();
    store.Set(key, ToHex(nonce));
    return nonce;
  }
  while (true) {
    if (const std::optional<std::string> text = store.TryGet(key)) {
      const std::optional<RunNonce> nonce = FromHex(*text);
      Require(nonce.has_value(), ErrorKind::kTransport, "the store at ", options.place, " holds ",
              text->size(), " bytes as the run's nonce; expected 32 hexadecimal digits");
      return *nonce;
    }
    if (steady_clock::now() >= until) throw RankZeroIsSilent(options, "did not appear in time");
    std::this_thread::sleep_for(kPause);
  }
}

std::string EndpointKey(const RendezvousOptions& options, int rank) {
  return StrCat(options.prefix, "endpoint/", rank);
}

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
    const std::optional<std::string> endpoint = store.TryGet(EndpointKey(options, rank));
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

}  // namespace

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
  if (timed.Count(StrCat(options.prefix, "claim/", options.rank)) != 1) {
    throw Error(ErrorKind::kRank,
                StrCat("two processes claim rank ", options.rank, " at the rendezvous ",
                       options.place, "; give every process its own --rank"),
                {{"rank", StrCat(options.rank)}});
  }
  const RunNonce nonce = AgreeOnNonce(timed, options, until);
  std::unique_ptr<Links> links = MakeLinks(options, nonce);
  const std::string endpoint = links->endpoint();
  auto transport = std::make_unique<WireTransport>(
      std::move(links), WireOptions{options.rank, options.world_size, nonce, options.transport});
  try {
    timed.Set(EndpointKey(options, options.rank), endpoint);
    std::vector<int> missing;
    for (int rank = 0; rank < options.world_size; ++rank) {
      if (rank != options.rank) missing.push_back(rank);
    }
    while (!missing.empty() && steady_clock::now() < until && !transport->failure()) {
      AddWhoAppeared(timed, options, *transport, missing);
      if (!missing.empty()) std::this_thread::sleep_for(kPause);
    }
    // Rank 0 closes the store once it has every hello; nobody needs it any more then.
    if (missing.empty()) transport->SayHello();
  } catch (const Error& error) {
    transport->Abort(error);  // so that those who are connected learn the reason
  }
  try {
    transport->WaitUntilConnected(until);
  } catch (const Error&) {
    // Others may be about to find out the same, by this rank's answers; who vanishes leaves them
    // guessing.
    std::this_thread::sleep_for(std::min(options.transport.rank_timeout / 4, milliseconds(500)));
    throw;
  }
  return transport;
}

}  // namespace xcomposer
