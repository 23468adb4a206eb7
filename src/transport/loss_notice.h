#pragma once

#include <optional>
#include <string>
#include <vector>

#include "transport/rendezvous.h"
#include "transport/timed_store.h"

namespace xcomposer {

/// What a rank that gives up the meeting leaves in the store for those that it cannot tell, because
/// they have not come yet or it has not found them: which rank is the cause. Without it they would
/// take the ranks that left for the lost ones. Bytes from outside: whoever reaches the store could
/// forge it, and end a meeting that it could disturb anyway.
struct LossNotice {
  enum class Cause { kLost, kSecret };
  Cause cause = Cause::kLost;
  int rank = 0;
};

std::string EncodeNotice(const LossNotice& notice);
/// Nothing where the text is not exactly a notice about one of the run's ranks.
std::optional<LossNotice> DecodeNotice(const std::string& text, int world_size);

/// What this rank has to say about why it ends: a lost rank, by kRank errors; itself, by an error
/// of its own. That keys differ is said by rank 0 only: its secret is the run's.
std::optional<LossNotice> NoticeOf(const Error& reason, int own_rank);

/// Throws where somebody has left a notice.
void ThrowIfNoticed(TimedStore& store, const RendezvousOptions& options);

/// This rank gives up for `reason`: leaves a notice, and word that it has left. Rank 0, which keeps
/// the store, waits until those of `others` that are not lost have left too, at most until `until`.
/// Throws nothing.
void LeaveMeeting(TimedStore& store, const RendezvousOptions& options, const Error& reason,
                  const std::vector<int>& others, TimePoint until);

}  // namespace xcomposer
