#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "transport/links.h"
#include "transport/transport.h"

namespace xcomposer {

/// Which ranks have been heard of and when, and which of them is lost. Time comes from the caller.
/// Thread-safe.
class PeerWatch {
 public:
  /// `rank` itself is never lost.
  PeerWatch(int rank, int world_size, std::chrono::milliseconds rank_timeout);

  /// How often to beat: so that nine in a row must be missing.
  std::chrono::milliseconds beat() const;

  /// How long a closed connection is not judged: a farewell or the reason of the end, sent before,
  /// may still be under way on another one.
  std::chrono::milliseconds closing_grace() const;

  /// Begins to connect; `endpoint` is for messages only.
  void Added(int rank, const std::string& endpoint);
  /// A frame of the rank came in: it lives, and it is at this stage and step.
  void Heard(int rank, uint32_t stage, uint64_t step, TimePoint now);
  void SaidHello(int rank);
  void Saw(const LinkEvent& event, TimePoint now);
  /// Wakes WaitForHellos for good.
  void Close();

  std::vector<int> added() const;
  /// The others that have not said hello yet.
  std::vector<int> WithoutHello() const;

  /// Returns true when every other rank has said hello; false at `until`, or once it is closed.
  bool WaitForHellos(TimePoint until);
  /// How long after the last sign of life a rank counts as dead where hellos are missing.
  std::chrono::milliseconds suspicion() const;
  /// Whether all ranks live and wait for each other, as far as this one can know.
  bool AllSeemAlive(TimePoint now) const;
  /// Names the ranks that have not said hello, and as "rank" the one that is the likeliest cause:
  /// whoever waits for others is not. kRank.
  std::optional<Error> MissingHellos(TimePoint now) const;

  /// To be called regularly. The reason why a rank is lost: kRank where it is silent or its
  /// connection was closed, kTransport where it refuses the handshake. Of several that are gone it
  /// is the one that went first: others leave because of it. A gap between two calls (this process
  /// was stopped) is nobody's silence.
  std::optional<Error> Judge(TimePoint now);

  /// When Judge could have news; not later than a beat from now.
  TimePoint NextJudgement(TimePoint now) const;

  /// kRank: rank `rank` is over for the reason `how`, with the stage and step where it was last.
  Error Lost(int rank, const std::string& how) const;

 private:
  struct Peer {
    bool added = false;
    bool heard = false;
    bool said_hello = false;
    std::string endpoint;
    TimePoint last_heard{};
    uint32_t stage = 0;
    uint64_t step = 0;
    std::optional<TimePoint> closed;
    std::optional<TimePoint> unreachable;  // since when, without interruption
    bool refused = false;
  };

  /// From the likeliest cause of a meeting that fails to the least likely.
  enum class Suspicion { kRefused, kGone, kNeverAppeared, kNeverHeard, kSilent, kAlive };

  Error LostLocked(int rank, const std::string& how) const;
  std::optional<Error> JudgeKey(int rank, const Peer& peer) const;
  bool IsLost(const Peer& peer, TimePoint now) const;
  bool IsSilent(const Peer& peer, TimePoint now) const;
  /// When the rank was last known to be there, for ranks that are not any more.
  std::optional<TimePoint> GoneSince(const Peer& peer, TimePoint now) const;
  std::string HowLost(const Peer& peer) const;
  Suspicion SuspicionOf(const Peer& peer, TimePoint now) const;
  std::string Described(const Peer& peer, TimePoint now) const;
  bool AllSaidHello() const;

  const int rank_;
  const std::chrono::milliseconds timeout_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::optional<TimePoint> last_judgement_;
  bool closed_ = false;
};

}  // namespace xcomposer
