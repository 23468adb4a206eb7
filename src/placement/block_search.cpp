#include "placement/block_search.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr double kWork =
    3e7;  // steps of the exact search that are still quick: under half a second
constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

/// Over all subsets and orders. States are numbered (used counts, class, begin).
class SubsetSearch {
 public:
  explicit SubsetSearch(const Rule& rule) : rule_(rule), problem_(rule.problem()) {
    size_t codes = 1;
    for (const BlockClass& device : problem_.classes) {
      steps_.push_back(codes);
      codes *= static_cast<size_t>(Usable(device)) + 1;
    }
    codes_ = codes;
    states_.resize(codes * problem_.classes.size() * Units());
  }

  /// At most as many blocks as there are units.
  int64_t Usable(const BlockClass& device) const {
    return std::min(device.count, problem_.units());
  }

  std::vector<Block> Run() {
    for (size_t c = 0; c < problem_.classes.size(); ++c) {
      if (problem_.classes[c].count > 0) states_[Index(0, c, 0)] = {{0, 0}, kStart};
    }
    // A block adds to the counts, so that a state's origins have smaller codes.
    for (size_t code = 0; code < codes_; ++code) {
      for (size_t c = 0; c < problem_.classes.size(); ++c) {
        for (size_t begin = 0; begin < Units(); ++begin) Extend(code, c, begin);
      }
    }
    return Trace();
  }

 private:
  size_t Units() const { return static_cast<size_t>(problem_.units()); }
  size_t Index(size_t code, size_t c, size_t begin) const {
    return (code * problem_.classes.size() + c) * Units() + begin;
  }
  bool HasLeft(size_t code, size_t c) const {
    const auto usable = static_cast<size_t>(Usable(problem_.classes[c]));
    return code / steps_[c] % (usable + 1) < usable;
  }

  void Extend(size_t code, size_t c, size_t begin) {
    const size_t from = Index(code, c, begin);
    const Score score = states_[from].score;
    if (score.primary == kInfinity || !HasLeft(code, c)) return;
    const size_t used = code + steps_[c];
    for (size_t end = begin + 1; end <= Units(); ++end) {
      const Block block{c, static_cast<int64_t>(begin), static_cast<int64_t>(end)};
      if (!rule_.Fits(c, block.begin, block.end)) return;
      if (end == Units()) {
        if (problem_.use_all && used + 1 != codes_) continue;
        const Score last = rule_.Add(score, block, 0);
        if (last < end_.score) end_ = {last, from};
        continue;
      }
      for (size_t next = 0; next < problem_.classes.size(); ++next) {
        if (!HasLeft(used, next)) continue;
        State& to = states_[Index(used, next, end)];
        const Score sum = rule_.Add(score, block, problem_.hops[c][next]);
        if (sum < to.score) to = {sum, from};
      }
    }
  }

  std::vector<Block> Trace() const {
    std::vector<Block> blocks;
    int64_t end = problem_.units();
    for (size_t state = end_.state; state != kStart; state = states_[state].before) {
      const auto begin = static_cast<int64_t>(state % Units());
      blocks.push_back({state / Units() % problem_.classes.size(), begin, end});
      end = begin;
    }
    std::reverse(blocks.begin(), blocks.end());
    return blocks;
  }

  const Rule& rule_;
  const BlockProblem& problem_;
  std::vector<size_t> steps_;
  size_t codes_ = 0;
  std::vector<State> states_;
  End end_;
};

/// With the classes one after the other. States are numbered (class, begin).
class OrderedSearch {
 public:
  explicit OrderedSearch(const Rule& rule)
      : rule_(rule),
        problem_(rule.problem()),
        units_(static_cast<size_t>(problem_.units())),
        states_(problem_.classes.size() * units_) {}

  std::vector<Block> Run() {
    const size_t count = problem_.classes.size();
    for (size_t c = 0; c < (problem_.use_all ? 1 : count); ++c) {
      states_[c * units_] = {{0, 0}, kStart};
    }
    for (size_t c = 0; c < count; ++c) {
      for (size_t begin = 0; begin < units_; ++begin) Extend(c, begin);
    }
    return Trace();
  }

 private:
  void Extend(size_t c, size_t begin) {
    const size_t from = c * units_ + begin;
    const Score score = states_[from].score;
    if (score.primary == kInfinity) return;
    const size_t count = problem_.classes.size();
    const size_t last_next = problem_.use_all ? std::min(count, c + 2) : count;
    for (size_t end = begin + 1; end <= units_; ++end) {
      const Block block{c, static_cast<int64_t>(begin), static_cast<int64_t>(end)};
      if (!rule_.Fits(c, block.begin, block.end)) return;
      if (end == units_) {
        if (problem_.use_all && c + 1 != count) continue;
        const Score last = rule_.Add(score, block, 0);
        if (last < end_.score) end_ = {last, from};
        continue;
      }
      for (size_t next = c + 1; next < last_next; ++next) {
        State& to = states_[next * units_ + end];
        const Score sum = rule_.Add(score, block, problem_.hops[c][next]);
        if (sum < to.score) to = {sum, from};
      }
    }
  }

  std::vector<Block> Trace() const {
    std::vector<Block> blocks;
    int64_t end = problem_.units();
    for (size_t state = end_.state; state != kStart; state = states_[state].before) {
      const auto begin = static_cast<int64_t>(state % units_);
      blocks.push_back({state / units_, begin, end});
      end = begin;
    }
    std::reverse(blocks.begin(), blocks.end());
    return blocks;
  }

  const Rule& rule_;
  const BlockProblem& problem_;
  size_t units_;
  std::vector<State> states_;
  End end_;
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

template <typename Search>
std::optional<BlockAnswer> Best(const BlockProblem& problem) {
  const Rule value(problem, Rule::Kind::kValue);
  BlockAnswer best = Measured(problem, Search(value).Run());
  if (best.blocks.empty()) return std::nullopt;
  if (problem.goal == BlockGoal::kSum) return best;
  // Among the many that are as fast: rounding of the sums must not exclude the one just found.
  const Rule fewest(problem, Rule::Kind::kBlocks, best.value * (1 + 1e-12));
  return Measured(problem, Search(fewest).Run());
}

template <typename Search>
BlockAnswer Least(const BlockProblem& problem) {
  const Rule missing(problem, Rule::Kind::kMissing);
  return Measured(problem, Search(missing).Run());
}

}  // namespace

bool IsSmall(const BlockProblem& problem) {
  double states = 1;
  for (const BlockClass& device : problem.classes) {
    states *= static_cast<double>(std::min(device.count, problem.units()) + 1);
    if (states > kWork) return false;
  }
  const auto classes = static_cast<double>(problem.classes.size());
  const auto units = static_cast<double>(problem.units());
  return states * classes * classes * units * units / 2 <= kWork;
}

std::optional<BlockAnswer> BestBlocks(const BlockProblem& problem) {
  return Best<SubsetSearch>(problem);
}

BlockAnswer LeastMissing(const BlockProblem& problem) { return Least<SubsetSearch>(problem); }

std::optional<BlockAnswer> BestBlocksInOrder(const BlockProblem& problem) {
  return Best<OrderedSearch>(problem);
}

BlockAnswer LeastMissingInOrder(const BlockProblem& problem) {
  return Least<OrderedSearch>(problem);
}

}  // namespace xcomposer
