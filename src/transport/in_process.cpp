#include "transport/in_process.h"

#include <deque>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "transport/inbox.h"
#include "transport/send_check.h"

namespace xcomposer {
namespace {

// What the ranks share. Outlives every one of them.
class Group {
 public:
  explicit Group(int world_size) : inboxes_(static_cast<size_t>(world_size)) {}

  int world_size() const { return static_cast<int>(inboxes_.size()); }
  Inbox& inbox(int rank) { return inboxes_[static_cast<size_t>(rank)]; }

  void Abort(const Error& reason) {
    // Without the lock two reasons could each win on some ranks.
    const std::lock_guard lock(mutex_);
    for (Inbox& inbox : inboxes_) inbox.Fail(reason);
  }

 private:
  std::mutex mutex_;
  std::deque<Inbox> inboxes_;
};

class InProcessTransport final : public Transport {
 public:
  InProcessTransport(std::shared_ptr<Group> group, int rank)
      : group_(std::move(group)), rank_(rank) {}

  ~InProcessTransport() override {
    group_->Abort(Error(ErrorKind::kRank, StrCat("rank ", rank_, " left the run"),
                        {{"rank", StrCat(rank_)}}));
  }

  int rank() const override { return rank_; }
  int world_size() const override { return group_->world_size(); }

  void Send(int to, const FrameHeader& header, Payload payload) override {
    CheckFrameToSend(to, world_size(), header, payload);
    if (const std::optional<Error> reason = failure()) throw Error(*reason);
    group_->inbox(to).Put(rank_, {header, std::move(payload)});
  }

  std::optional<Frame> Receive(int from, Channel channel, TimePoint until) override {
    Check(from >= 0 && from < world_size(), "a frame from rank ", from, " of ", world_size());
    return group_->inbox(rank_).Take(from, channel, until);
  }

  void Abort(const Error& reason) override { group_->Abort(reason); }

  std::optional<Error> failure() const override { return group_->inbox(rank_).failure(); }

 private:
  const std::shared_ptr<Group> group_;
  const int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> MakeInProcessTransports(int world_size) {
  Check(world_size > 0, "a run of ", world_size, " ranks");
  const auto group = std::make_shared<Group>(world_size);
  std::vector<std::unique_ptr<Transport>> transports;
  for (int rank = 0; rank < world_size; ++rank) {
    transports.push_back(std::make_unique<InProcessTransport>(group, rank));
  }
  return transports;
}

}  // namespace xcomposer
