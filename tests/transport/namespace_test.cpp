// Ranks in network namespaces as hosts, between which a link really goes down. Needs the right to
// make namespaces, and iproute2; skipped by name without them.
#include <gtest/gtest.h>

#include <deque>

#include "base/check.h"
#include "support/two_hosts.h"
#include "transport/folder_store.h"
#include "transport/rank_group.h"
#include "transport/rank_process.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kRankTimeout{1200};
constexpr milliseconds kPatience{15000};

void RunRank(const std::filesystem::path& folder, int rank, const RankProcess::Say& say) {
  RendezvousOptions options = LoopbackRanks(2)[static_cast<size_t>(rank)];
  options.bind_address = TwoHosts::Address(rank);
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
      Check(hosts.Enter(rank), "cannot enter host ", rank);
      RunRank(folder.path(), rank, say);
    });
  }
  for (RankProcess& rank : ranks) {
    ASSERT_EQ(rank.Line(kPatience).value_or("nothing"), "over the wire");
  }
  ASSERT_TRUE(hosts.SetLink(false));
  const auto down = steady_clock::now();
  EXPECT_EQ(ranks[0].Line(kPatience).value_or("nothing"), "rank 1");
  EXPECT_EQ(ranks[1].Line(kPatience).value_or("nothing"), "rank 0");
  EXPECT_LT(steady_clock::now() - down, milliseconds(10000));
}

}  // namespace
}  // namespace xcomposer
