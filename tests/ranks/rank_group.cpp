#include "ranks/rank_group.h"

#include <algorithm>
#include <cstdlib>
#include <regex>

namespace xcomposer::testing {

std::string DemoModel() { return XCOMPOSER_SOURCE_DIR "/demo/checkpoint"; }

bool Full() { return std::getenv("XCOMPOSER_FULL_TESTS") != nullptr; }

RankGroup::RankGroup(int count) : ranks_(static_cast<size_t>(count)) {
  for (int rank = 0; rank < count; ++rank) Start(rank);
}

void RankGroup::Start(int rank, const std::vector<std::string>& before) {
  std::vector<std::string> arguments = before;
  arguments.insert(arguments.end(),
                   {XCOMPOSER_RANK_PROGRAM, std::to_string(rank), std::to_string(count()),
                    DemoModel(), std::to_string(kTimeout)});
  std::unique_ptr<Process>& process = ranks_.at(static_cast<size_t>(rank));
  if (process) ready_.erase(process.get());
  process = std::make_unique<Process>(arguments);
  Set(rank, "connect_timeout", kManySeconds);
}

void RankGroup::Set(int rank, const std::string& name, const std::string& value) {
  this->rank(rank).Send("set " + name + " " + value);
}

void RankGroup::SetAll(const std::string& name, const std::string& value) {
  for (int rank = 0; rank < count(); ++rank) Set(rank, name, value);
}

void RankGroup::StartRun(const std::vector<int>& ranks) {
  // The time to connect is for ranks that run, not for the system to start them.
  for (auto& process : ranks_) {
    if (!ready_.insert(process.get()).second) continue;
    ASSERT_TRUE(process->LineWith("ready", kPatience)) << Transcripts();
  }
  port_.emplace();
  place_ = host_ + ":" + std::to_string(port_->number());
  run_begins_.clear();
  for (auto& process : ranks_) run_begins_.push_back(process->transcript().size());
  for (int rank = 0; rank < count(); ++rank) {
    const bool wanted = ranks.empty() || std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
    if (wanted) this->rank(rank).Send("run " + place_);
  }
}

std::string RankGroup::EndOf(int rank) {
  while (std::optional<std::string> line = this->rank(rank).NextLine(kBound)) {
    if (line->rfind("error", 0) == 0 || line->rfind("ended", 0) == 0) return *line;
  }
  ADD_FAILURE() << "rank " << rank << " hangs or died\n" << Transcripts();
  return "";
}

std::string RankGroup::PrintedInRun(int rank) const {
  const auto index = static_cast<size_t>(rank);
  return ranks_.at(index)->transcript().substr(run_begins_.at(index));
}

void RankGroup::ExpectNames(const std::string& end, int rank, int lost) {
  const std::regex wanted("error (rank|transport) rank=" + std::to_string(lost) +
                          " stage=[0-9]+ step=[0-9]+ .*");
  EXPECT_TRUE(std::regex_match(end, wanted))
      << "rank " << rank << " was expected to name rank " << lost << ": " << end << "\n"
      << Transcripts();
}

std::string RankGroup::WholeRun() {
  StartRun();
  const auto ids = rank(0).LineWith("ids", kPatience);
  EXPECT_TRUE(ids) << Transcripts();
  for (int rank = 0; rank < count(); ++rank) EXPECT_EQ(EndOf(rank), "ended") << Transcripts();
  return ids.value_or("");
}

std::string RankGroup::Transcripts() const {
  std::string text;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    text += "--- rank " + std::to_string(rank) + "\n" + ranks_[rank]->transcript();
  }
  return text;
}

}  // namespace xcomposer::testing
