#include "placement/block_search.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr double kWork =
    3e7;  // steps of the exact search that are still quick: under half a second
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1 + 1e-12;  // between two ways to the same sum

/// Compared in this order.
struct Score {
  double primary = kInfinity;
  double fill = kInfinity;  // of the fullest device

  bool operator<(const Score& other) const {
    return primary != other.primary ? primary < other.primary : fill < other.fill;
  }
};

/// What a block costs, and how costs add up.
class Rule {
 public:
  enum class Kind {
    kValue,    // the problem's goal
    kBlocks,   // the number of blocks, each within a limit of seconds
    kMissing,  // bytes over the budgets
  };

  Rule(const BlockProblem& problem, Kind kind, double limit = kInfinity)
      : problem_(problem), kind_(kind), limit_(limit) {}

  const BlockProblem& problem() const { return problem_; }

  bool Fits(size_t c, int64_t begin, int64_t end) const {
    return kind_ == Kind::kMissing || Bytes(begin, end) <= problem_.classes[c].budget;
  }

  Score Add(const Score& score, const Block& block, double hop) const {
    const BlockClass& device = problem_.classes[block.device_class];
    const int64_t bytes = Bytes(block.begin, block.end);
    const double seconds = device.seconds[static_cast<size_t>(block.end)] -
                           device.seconds[static_cast<size_t>(block.begin)] + hop;
    if (seconds > limit_) return {};
    Score sum;
    switch (kind_) {
      case Kind::kValue:
        sum.primary = problem_.goal == BlockGoal::kSum ? score.primary + seconds
                                                       : std::max(score.primary, seconds);
        break;
      case Kind::kBlocks:
        sum.primary = score.primary + 1;
        break;
      case Kind::kMissing:
        sum.primary =
            score.primary + static_cast<double>(std::max<int64_t>(0, bytes - device.budget));
        break;
    }
    const double room = static_cast<double>(std::max<int64_t>(1, device.budget));
    sum.fill = std::max(score.fill, static_cast<double>(bytes) / room);
    return sum;
  }

 private:
  int64_t Bytes(int64_t begin, int64_t end) const {
    return problem_.bytes[static_cast<size_t>(end)] - problem_.bytes[static_cast<size_t>(begin)];
  }

  const BlockProblem& problem_;
  Kind kind_;
  double limit_;
};

/// A place in a search: what has been used, which class takes the next block, where that begins.
struct State {
  Score score;
  size_t before = 0;  // index of the state that led here
};
constexpr size_t kStart = std::numeric_limits<size_t>::max();

struct End {
  Score score;
  size_t state = kStart;
};

/// The best ends of a search by the number of blocks, or all of them in one where the search does
/// not tell them apart.
class Ends {
 public:
  explicit Ends(size_t most) : ends_(most + 1) {}

  void Offer(size_t count, const End& end) {
    if (end.score < ends_[count].score) ends_[count] = end;
  }
  const End& Of(size_t count) const { return ends_[count]; }
  /// Among equals the one of the fewest blocks.
  const End& Best() const {
    return *std::min_element(ends_.begin(), ends_.end(),
                             [](const End& a, const End& b) { return a.score < b.score; });
  }

 private:
  std::vector<End> ends_;
};

/// At most as many blocks as there are units.
int64_t Usable(const BlockProblem& problem, const BlockClass& device) {
  return std::min(device.count, problem.units());
}

size_t MostBlocks(const BlockProblem& problem) {
  int64_t devices = 0;
  for (const BlockClass& device : problem.classes) devices += Usable(problem, device);
  const int64_t most = problem.most_blocks > 0 ? problem.most_blocks : devices;
  return static_cast<size_t>(std::min({most, devices, problem.units()}));
}

/// Over all subsets and orders. States are numbered (used counts, class, begin).
class SubsetSearch {
 public:
  explicit SubsetSearch(const Rule& rule)
      : rule_(rule), problem_(rule.problem()), most_(MostBlocks(problem_)), ends_(most_) {
    for (const BlockClass& device : problem_.classes) {
      steps_.push_back(codes_);
      codes_ *= static_cast<size_t>(Usable(problem_, device)) + 1;
    }
    states_.resize(codes_ * problem_.classes.size() * Units());
  }

  void Run() {
    for (size_t c = 0; c < problem_.classes.size(); ++c) {
      if (problem_.classes[c].count > 0) states_[Index(0, c, 0)] = {{0, 0}, kStart};
    }
    // A block adds to the counts, so that a state's origins have smaller codes.
    for (size_t code = 0; code < codes_; ++code) {
      const size_t blocks = BlocksIn(code);
      if (blocks >= most_) continue;
      for (size_t c = 0; c < problem_.classes.size(); ++c) {
        if (!HasLeft(code, c)) continue;
        for (size_t begin = 0; begin < Units(); ++begin) Extend({code, c, begin}, blocks + 1);
      }
    }
  }

  const Ends& ends() const { return ends_; }

  std::vector<Block> Trace(const End& last) const {
    std::vector<Block> blocks;
    int64_t end = problem_.units();
    for (size_t state = last.state; state != kStart; state = states_[state].before) {
      const auto begin = static_cast<int64_t>(state % Units());
      blocks.push_back({state / Units() % problem_.classes.size(), begin, end});
      end = begin;
    }
    std::reverse(blocks.begin(), blocks.end());
    return blocks;
  }

 private:
  struct Place {
    size_t code = 0;
    size_t device_class = 0;
    size_t begin = 0;
  };

  size_t Units() const { return static_cast<size_t>(problem_.units()); }
  size_t Index(size_t code, size_t c, size_t begin) const {
    return (code * problem_.classes.size() + c) * Units() + begin;
  }
  size_t UsedOf(size_t code, size_t c) const {
    return code / steps_[c] % (static_cast<size_t>(Usable(problem_, problem_.classes[c])) + 1);
  }
  bool HasLeft(size_t code, size_t c) const {
    return UsedOf(code, c) < static_cast<size_t>(Usable(problem_, problem_.classes[c]));
  }
  size_t BlocksIn(size_t code) const {
    size_t blocks = 0;
    for (size_t c = 0; c < steps_.size(); ++c) blocks += UsedOf(code, c);
    return blocks;
  }

  /// By a block that becomes number `blocks`.
  void Extend(const Place& place, size_t blocks) {
    const size_t c = place.device_class;
    const size_t from = Index(place.code, c, place.begin);
    const Score score = states_[from].score;
    if (score.primary == kInfinity) return;
    const size_t used = place.code + steps_[c];
    for (size_t end = place.begin + 1; end <= Units(); ++end) {
      const Block block{c, static_cast<int64_t>(place.begin), static_cast<int64_t>(end)};
      if (!rule_.Fits(c, block.begin, block.end)) return;
      if (end == Units()) {
        if (problem_.use_all && used + 1 != codes_) continue;
        ends_.Offer(blocks, {rule_.Add(score, block, 0), from});
        continue;
      }
      if (blocks == most_) continue;
      for (size_t next = 0; next < problem_.classes.size(); ++next) {
        if (!HasLeft(used, next)) continue;
        State& to = states_[Index(used, next, end)];
        const Score sum = rule_.Add(score, block, problem_.hops[c][next]);
        if (sum < to.score) to = {sum, from};
      }
    }
  }

  const Rule& rule_;
  const BlockProblem& problem_;
  std::vector<size_t> steps_;
  size_t codes_ = 1;
  size_t most_;
  std::vector<State> states_;
  Ends ends_;
};

/// True where the classes in their order need not be told apart by the number of blocks.
bool CountsDoNotMatter(const BlockProblem& problem) {
  return problem.use_all || problem.most_blocks == 0;
}

/// With the classes one after the other. States are numbered (blocks before, class, begin); where
/// counts do not matter all of them are as if no block were before.
class OrderedSearch {
 public:
  explicit OrderedSearch(const Rule& rule)
      : rule_(rule),
        problem_(rule.problem()),
        units_(static_cast<size_t>(problem_.units())),
        most_(CountsDoNotMatter(problem_) ? 1 : MostBlocks(problem_)),
        states_(most_ * problem_.classes.size() * units_),
        ends_(MostBlocks(problem_)) {}

  void Run() {
    const size_t count = problem_.classes.size();
    for (size_t c = 0; c < (problem_.use_all ? 1 : count); ++c) {
      states_[c * units_] = {{0, 0}, kStart};
    }
    for (size_t before = 0; before < most_; ++before) {
      for (size_t c = 0; c < count; ++c) {
        for (size_t begin = 0; begin < units_; ++begin) Extend({before, c, begin});
      }
    }
  }

  const Ends& ends() const { return ends_; }

  std::vector<Block> Trace(const End& last) const {
    std::vector<Block> blocks;
    int64_t end = problem_.units();
    for (size_t state = last.state; state != kStart; state = states_[state].before) {
      const auto begin = static_cast<int64_t>(state % units_);
      blocks.push_back({state / units_ % problem_.classes.size(), begin, end});
      end = begin;
    }
    std::reverse(blocks.begin(), blocks.end());
    return blocks;
  }

 private:
  struct Place {
    size_t before = 0;
    size_t device_class = 0;
    size_t begin = 0;
  };

  size_t Index(size_t before, size_t c, size_t begin) const {
    return (before * problem_.classes.size() + c) * units_ + begin;
  }

  void Extend(const Place& place) {
    const size_t c = place.device_class;
    const size_t from = Index(place.before, c, place.begin);
    const Score score = states_[from].score;
    if (score.primary == kInfinity) return;
    const size_t count = problem_.classes.size();
    const size_t last_next = problem_.use_all ? std::min(count, c + 2) : count;
    const bool counted = !CountsDoNotMatter(problem_);
    const size_t before = counted ? place.before + 1 : 0;
    const size_t blocks = counted ? before : problem_.use_all ? count : 0;
    for (size_t end = place.begin + 1; end <= units_; ++end) {
      const Block block{c, static_cast<int64_t>(place.begin), static_cast<int64_t>(end)};
      if (!rule_.Fits(c, block.begin, block.end)) return;
      if (end == units_) {
        if (problem_.use_all && c + 1 != count) continue;
        ends_.Offer(blocks, {rule_.Add(score, block, 0), from});
        continue;
      }
      if (before == most_) continue;
      for (size_t next = c + 1; next < last_next; ++next) {
        State& to = states_[Index(before, next, end)];
        const Score sum = rule_.Add(score, block, problem_.hops[c][next]);
        if (sum < to.score) to = {sum, from};
      }
    }
  }

  const Rule& rule_;
  const BlockProblem& problem_;
  size_t units_;
  size_t most_;
  std::vector<State> states_;
  Ends ends_;
};

BlockAnswer Measured(const BlockProblem& problem, std::vector<Block> blocks) {
  BlockAnswer answer;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    const BlockClass& device = problem.classes[block.device_class];
    double seconds = device.seconds[static_cast<size_t>(block.end)] -
                     device.seconds[static_cast<size_t>(block.begin)];
    if (i + 1 < blocks.size()) {
      seconds += problem.hops[block.device_class][blocks[i + 1].device_class];
    }
    answer.value =
        problem.goal == BlockGoal::kSum ? answer.value + seconds : std::max(answer.value, seconds);
    const int64_t bytes = problem.bytes[static_cast<size_t>(block.end)] -
                          problem.bytes[static_cast<size_t>(block.begin)];
    answer.missing += std::max<int64_t>(0, bytes - device.budget);
  }
  answer.blocks = std::move(blocks);
  return answer;
}

/// What `use` makes of the search that belongs to the problem, after it has run.
template <typename Use>
auto Searched(const Rule& rule, const Use& use) {
  if (rule.problem().in_order) {
    OrderedSearch search(rule);
    search.Run();
    return use(search);
  }
  SubsetSearch search(rule);
  search.Run();
  return use(search);
}

BlockAnswer BestBy(const Rule& rule) {
  return Measured(rule.problem(), Searched(rule, [](const auto& search) {
                    return search.Trace(search.ends().Best());
                  }));
}

}  // namespace

bool IsSmall(const BlockProblem& problem) {
  const auto classes = static_cast<double>(problem.classes.size());
  const auto units = static_cast<double>(problem.units());
  double states = 1;
  if (problem.in_order) {
    if (!CountsDoNotMatter(problem)) states = static_cast<double>(MostBlocks(problem)) / 2;
    return states * classes * classes * units * units / 2 <= kWork;
  }
  for (const BlockClass& device : problem.classes) {
    states *= static_cast<double>(Usable(problem, device) + 1);
    if (states > kWork) return false;
  }
  return states * classes * classes * units * units / 2 <= kWork;
}

std::optional<BlockAnswer> BestBlocks(const BlockProblem& problem) {
  BlockAnswer best = BestBy({problem, Rule::Kind::kValue});
  if (best.blocks.empty()) return std::nullopt;
  if (problem.goal == BlockGoal::kSum) return best;
  // Among the many that are as fast: rounding of the sums must not exclude the one just found.
  return BestBy({problem, Rule::Kind::kBlocks, best.value * kRounding});
}

std::vector<double> BestValues(const BlockProblem& problem) {
  Check(problem.most_blocks > 0, "cuts are told apart by a number of blocks that is not set");
  std::vector<double> values(static_cast<size_t>(problem.most_blocks) + 1, kInfinity);
  const Rule rule(problem, Rule::Kind::kValue);
  Searched(rule, [&](const auto& search) {
    for (size_t count = 1; count <= MostBlocks(problem); ++count) {
      values[count] = search.ends().Of(count).score.primary;
    }
    return 0;
  });
  return values;
}

std::optional<BlockAnswer> BestBlocksOf(const BlockProblem& problem, int64_t count,
                                        double seconds) {
  BlockProblem limited = problem;
  limited.most_blocks = count;
  if (MostBlocks(limited) != static_cast<size_t>(count)) return std::nullopt;
  const bool all_equal = problem.goal == BlockGoal::kSlowest;
  const Rule rule(limited, all_equal ? Rule::Kind::kBlocks : Rule::Kind::kValue,
                  seconds * kRounding);
  BlockAnswer best = Measured(problem, Searched(rule, [&](const auto& search) {
                                return search.Trace(search.ends().Of(static_cast<size_t>(count)));
                              }));
  if (best.blocks.empty()) return std::nullopt;
  return best;
}

BlockAnswer LeastMissing(const BlockProblem& problem) {
  return BestBy({problem, Rule::Kind::kMissing});
}

}  // namespace xcomposer
