// Ranks in network namespaces as hosts, between which a link really goes down. Needs the right to
// make namespaces, and iproute2; skipped by name without them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>

#include "transport/folder_store.h"
#include "transport/rank_group.h"
#include "transport/rank_process.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kRankTimeout{1200};
constexpr milliseconds kPatience{15000};

bool Succeeds(const std::string& command) {
  return std::system((command + " > /dev/null 2>&1").c_str()) == 0;
}

// Two namespaces with a link between 10.77.0.1 and 10.77.0.2.
class TwoHosts {
 public:
  TwoHosts() : names_{StrCat("xc", getpid(), "a"), StrCat("xc", getpid(), "b")} {
    const std::string& a = names_[0];
    const std::string& b = names_[1];
    made_ = Succeeds("ip netns add " + a) && Succeeds("ip netns add " + b) &&
            Succeeds("ip -n " + a + " link add up0 type veth peer name up0 netns " + b);
    for (int host = 0; made_ && host < 2; ++host) {
      const std::string in = "ip -n " + names_[static_cast<size_t>(host)];
      made_ = Succeeds(StrCat(in, " addr add 10.77.0.", host + 1, "/24 dev up0")) &&
              Succeeds(in + " link set up0 up") && Succeeds(in + " link set lo up");
    }
  }
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;
  ~TwoHosts() {
    for (const std::string& name : names_) Succeeds("ip netns del " + name);
  }

  bool made() const { return made_; }
  bool TakeLinkDown() const { return Succeeds("ip -n " + names_[0] + " link set up0 down"); }

  /// Moves this process, which must have one thread, to a host.
  void Enter(int host) const {
    const std::string file = "/var/run/netns/" + names_[static_cast<size_t>(host)];
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    Check(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "cannot enter ", file);
    close(fd);
  }

 private:
  const std::string names_[2];
  bool made_ = false;
};

void RunRank(const std::filesystem::path& folder, int rank, const RankProcess::Say& say) {
  RendezvousOptions options = LoopbackRanks(2)[static_cast<size_t>(rank)];
  options.bind_address = StrCat("10.77.0.", rank + 1);
  options.secret = Secret("a secret of more than sixteen bytes");
  options.transport.rank_timeout = kRankTimeout;
  try {
    DeadlineWorker worker;
    const auto transport =
        MeetRanks(std::make_shared<FolderStore>(folder), worker, options, In(milliseconds(10000)));
    SendText(*transport, 1 - rank, Channel::kHidden, "over the wire");
    const auto frame = transport->Receive(1 - rank, Channel::kHidden, In(milliseconds(10000)));
    say(frame ? TextOf(*frame) : "nothing came");
    transport->Receive(1 - rank, Channel::kHidden, TimePoint::max());
  } catch (const Error& error) {
    say(StrCat(ToString(error.kind()), " ", error.where().at("rank")));
  }
}

TEST(Namespaces, ALinkThatGoesDownIsFoundOnBothSides) {
  const TwoHosts hosts;
  if (!hosts.made()) GTEST_SKIP() << "network namespaces cannot be made here";
  const TemporaryFolder folder;
  std::deque<RankProcess> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank](const RankProcess::Say& say) {
      hosts.Enter(rank);
      RunRank(folder.path(), rank, say);
    });
  }
  for (RankProcess& rank : ranks) {
    ASSERT_EQ(rank.Line(kPatience).value_or("nothing"), "over the wire");
  }
  ASSERT_TRUE(hosts.TakeLinkDown());
  const auto down = steady_clock::now();
  EXPECT_EQ(ranks[0].Line(kPatience).value_or("nothing"), "rank 1");
  EXPECT_EQ(ranks[1].Line(kPatience).value_or("nothing"), "rank 0");
  EXPECT_LT(steady_clock::now() - down, milliseconds(10000));
}

}  // namespace
}  // namespace xcomposer
