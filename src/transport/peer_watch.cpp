#include "transport/peer_watch.h"

#include <algorithm>

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
  if (event.kind == LinkEvent::Kind::kRefused) {
    peer.refused = true;
  } else if (!peer.closed) {
    peer.closed = now;
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

Error PeerWatch::MissingHellos() const {
  const std::lock_guard lock(mutex_);
  std::string missing;
  std::optional<size_t> first;  // of those that are silent, else of those that wait for others
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const Peer& peer = peers_[rank];
    if (static_cast<int>(rank) == rank_ || peer.said_hello) continue;
    missing += StrCat(first ? ", rank " : "rank ", rank);
    if (!first || (peers_[*first].heard && !peer.heard)) first = rank;
    if (!peer.added) {
      missing += " (never appeared at the rendezvous)";
    } else if (peer.refused) {
      missing += StrCat(" at ", peer.endpoint, " (the handshake failed: has it another secret?)");
    } else if (peer.heard) {
      missing += StrCat(" at ", peer.endpoint, " (it waits for others itself)");
    } else {
      missing +=
          StrCat(" at ", peer.endpoint, " (not reached: is its process alive, is the port open?)");
    }
  }
  Check(first.has_value(), "no rank is missing");
  Error::Where where = {{"rank", StrCat(*first)}, {"stage", "0"}, {"step", "0"}};
  const bool refused = peers_[*first].refused;
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
  for (size_t rank = 0; rank < peers_.size() && !lost; ++rank) {
    if (static_cast<int>(rank) != rank_)
      lost = JudgeLife(static_cast<int>(rank), peers_[rank], now);
  }
  return lost;
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

std::optional<Error> PeerWatch::JudgeLife(int rank, const Peer& peer, TimePoint now) const {
  if (peer.closed && now - *peer.closed >= closing_grace()) {
    return LostLocked(rank, "its connection was closed or reset (was its process killed?)");
  }
  // A beat less than the bound: this is looked at once a beat only.
  if (peer.heard && now - peer.last_heard >= timeout_ - beat()) {
    return LostLocked(
        rank, StrCat("nothing was heard of it within the rank timeout of ", Seconds(timeout_)));
  }
  return std::nullopt;
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
