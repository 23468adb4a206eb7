#include "transport/peer_watch.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

std::string Seconds(milliseconds time) {
  return StrCat(static_cast<double>(time.count()) / 1000.0, " s");
}

}  // namespace

PeerWatch::PeerWatch(int rank, int world_size, milliseconds rank_timeout)
    : rank_(rank), timeout_(rank_timeout), peers_(static_cast<size_t>(world_size)) {}

milliseconds PeerWatch::beat() const {
  return std::clamp(timeout_ / 10, milliseconds(5), milliseconds(1000));
}

milliseconds PeerWatch::closing_grace() const { return std::min(timeout_ / 4, milliseconds(500)); }

void PeerWatch::Added(int rank, const std::string& endpoint) {
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_.at(static_cast<size_t>(rank));
  peer.added = true;
  peer.endpoint = endpoint;
}

void PeerWatch::Heard(int rank, uint32_t stage, uint64_t step, TimePoint now) {
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_.at(static_cast<size_t>(rank));
  peer.heard = true;
  peer.last_heard = std::max(peer.last_heard, now);
  // Channels overtake each other: only what is later counts.
  if (step < peer.step) return;
  peer.stage = stage;
  peer.step = step;
}

void PeerWatch::SaidHello(int rank) {
  {
    const std::lock_guard lock(mutex_);
    peers_.at(static_cast<size_t>(rank)).said_hello = true;
  }
  changed_.notify_all();
}

void PeerWatch::Saw(const LinkEvent& event, TimePoint now) {
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_.at(static_cast<size_t>(event.rank));
  switch (event.kind) {
    case LinkEvent::Kind::kReached:
      peer.unreachable.reset();
      return;
    case LinkEvent::Kind::kUnreachable:
      if (!peer.unreachable) peer.unreachable = now;
      return;
    case LinkEvent::Kind::kClosed:
      if (!peer.closed) peer.closed = now;
      return;
    case LinkEvent::Kind::kRefused:
      peer.refused = true;
      return;
  }
}

void PeerWatch::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

std::vector<int> PeerWatch::added() const {
  const std::lock_guard lock(mutex_);
  std::vector<int> ranks;
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    if (peers_[rank].added) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

std::vector<int> PeerWatch::WithoutHello() const {
  const std::lock_guard lock(mutex_);
  std::vector<int> ranks;
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const bool missing = static_cast<int>(rank) != rank_ && !peers_[rank].said_hello;
    if (missing) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

bool PeerWatch::AllSaidHello() const {
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    if (static_cast<int>(rank) != rank_ && !peers_[rank].said_hello) return false;
  }
  return true;
}

bool PeerWatch::WaitForHellos(TimePoint until) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, until, [&] { return closed_ || AllSaidHello(); });
  return !closed_ && AllSaidHello();
}

milliseconds PeerWatch::suspicion() const { return 3 * beat(); }

PeerWatch::Suspicion PeerWatch::SuspicionOf(const Peer& peer, TimePoint now) const {
  if (peer.refused && !peer.heard) return Suspicion::kRefused;
  if (GoneSince(peer, now)) return Suspicion::kGone;
  // What a rank that has said hello was heard to say later counts like any other's.
  if (!peer.said_hello && !peer.added) return Suspicion::kNeverAppeared;
  if (!peer.said_hello && !peer.heard) return Suspicion::kNeverHeard;
  return now - peer.last_heard > suspicion() ? Suspicion::kSilent : Suspicion::kAlive;
}

bool PeerWatch::AllSeemAlive(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    if (static_cast<int>(rank) == rank_) continue;
    if (SuspicionOf(peers_[rank], now) != Suspicion::kAlive) return false;
  }
  return true;
}

std::string PeerWatch::Described(const Peer& peer, TimePoint now) const {
  const std::string at = peer.endpoint.empty() ? "" : StrCat(" at ", peer.endpoint);
  switch (SuspicionOf(peer, now)) {
    case Suspicion::kRefused:
      return at + " (the handshake failed: has it another secret?)";
    case Suspicion::kGone:
      return StrCat(at, " (", HowLost(peer), ")");
    case Suspicion::kNeverAppeared:
      return at + " (never appeared at the rendezvous)";
    case Suspicion::kNeverHeard:
      return at + " (not reached: is its process alive, is the port open?)";
    case Suspicion::kSilent:
      return at + " (it has fallen silent)";
    case Suspicion::kAlive:
      return at + " (it waits for others itself)";
  }
  return at;
}

std::optional<Error> PeerWatch::MissingHellos(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  using Rank = std::tuple<Suspicion, TimePoint, size_t>;
  std::optional<Rank> likeliest;
  std::string missing;
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const Peer& peer = peers_[rank];
    if (static_cast<int>(rank) == rank_) continue;
    const Suspicion suspicion = SuspicionOf(peer, now);
    if (peer.said_hello && suspicion == Suspicion::kAlive) continue;
    missing += StrCat(missing.empty() ? "rank " : ", rank ", rank, Described(peer, now));
    const TimePoint since = GoneSince(peer, now).value_or(peer.last_heard);
    const Rank candidate(suspicion, since, rank);
    if (!likeliest || candidate < *likeliest) likeliest = candidate;
  }
  if (!likeliest) return std::nullopt;  // the last one has just come
  const auto [suspicion, since, rank] = *likeliest;
  Error::Where where = {{"rank", StrCat(rank)}, {"stage", "0"}, {"step", "0"}};
  const bool refused = suspicion == Suspicion::kRefused;
  if (refused) where["field"] = "secret";
  return Error(
      refused ? ErrorKind::kTransport : ErrorKind::kRank,
      StrCat("not all ranks connected in time; missing, as seen from rank ", rank_, ": ", missing),
      std::move(where));
}

std::optional<Error> PeerWatch::Judge(TimePoint now) {
  const std::lock_guard lock(mutex_);
  // While this process did not run, it could not hear anyone either.
  if (last_judgement_ && now - *last_judgement_ > timeout_ / 2) {
    for (Peer& peer : peers_) peer.last_heard += now - *last_judgement_;
  }
  last_judgement_ = now;
  std::optional<Error> lost;
  for (size_t rank = 0; rank < peers_.size() && !lost; ++rank) {
    if (static_cast<int>(rank) != rank_) lost = JudgeKey(static_cast<int>(rank), peers_[rank]);
  }
  // Later: where one rank has another key, all others end and close their connections.
  if (lost || std::none_of(peers_.begin(), peers_.end(),
                           [&](const Peer& peer) { return IsLost(peer, now); })) {
    return lost;
  }
  std::optional<std::pair<TimePoint, size_t>> first;
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const std::optional<TimePoint> since = GoneSince(peers_[rank], now);
    if (since && (!first || std::pair(*since, rank) < *first)) first = {*since, rank};
  }
  return LostLocked(static_cast<int>(first->second), HowLost(peers_[first->second]));
}

std::optional<Error> PeerWatch::JudgeKey(int rank, const Peer& peer) const {
  if (peer.heard || !peer.refused) return std::nullopt;
  return Error(
      ErrorKind::kTransport,
      StrCat("rank ", rank, " at ", peer.endpoint,
             " and this rank do not accept each other's keys. Start every rank with the same ",
             "secret (--secret-file or XCOMPOSER_SECRET), or all of them without"),
      {{"rank", StrCat(rank)}, {"field", "secret"}, {"stage", "0"}, {"step", "0"}});
}

bool PeerWatch::IsSilent(const Peer& peer, TimePoint now) const {
  // A beat less than the bound: this is looked at once a beat only.
  return peer.heard && now - peer.last_heard >= timeout_ - beat();
}

bool PeerWatch::IsLost(const Peer& peer, TimePoint now) const {
  return (peer.closed && now - *peer.closed >= closing_grace()) || IsSilent(peer, now);
}

std::optional<TimePoint> PeerWatch::GoneSince(const Peer& peer, TimePoint now) const {
  std::optional<TimePoint> since = peer.closed;
  if (peer.unreachable && (!since || *peer.unreachable < *since)) since = peer.unreachable;
  if (IsSilent(peer, now) && (!since || peer.last_heard < *since)) since = peer.last_heard;
  return since;
}

std::string PeerWatch::HowLost(const Peer& peer) const {
  if (peer.closed) return "its connection was closed or reset (was its process killed?)";
  if (peer.unreachable) {
    return "nobody listens at its address any more (was its process killed, is the port open?)";
  }
  return StrCat("nothing was heard of it within the rank timeout of ", Seconds(timeout_));
}

TimePoint PeerWatch::NextJudgement(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  TimePoint next = now + beat();
  for (const Peer& peer : peers_) {
    if (peer.closed) next = std::min(next, *peer.closed + closing_grace());
  }
  return std::max(next, now);
}

Error PeerWatch::Lost(int rank, const std::string& how) const {
  const std::lock_guard lock(mutex_);
  return LostLocked(rank, how);
}

Error PeerWatch::LostLocked(int rank, const std::string& how) const {
  const Peer& peer = peers_.at(static_cast<size_t>(rank));
  return Error(
      ErrorKind::kRank,
      StrCat("rank ", rank, " was lost at stage ", peer.stage, ", step ", peer.step, ": ", how),
      {{"rank", StrCat(rank)}, {"stage", StrCat(peer.stage)}, {"step", StrCat(peer.step)}});
}

}  // namespace xcomposer
