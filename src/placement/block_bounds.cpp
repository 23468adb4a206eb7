#include "placement/block_bounds.h"

#include <algorithm>
#include <limits>

namespace xcomposer {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSets = 2.5e7;  // sets of devices, times classes, that are quickly gone through

/// The end of the longest block from `begin` that fits the device.
int64_t Farthest(const BlockProblem& problem, const BlockClass& device, int64_t begin) {
  const auto first = problem.bytes.begin() + begin;
  const auto past = std::upper_bound(first, problem.bytes.end(), *first + device.budget);
  return past == first ? begin : past - problem.bytes.begin() - 1;
}

/// The longest block anywhere that keeps within budget and `seconds`.
int64_t LongestBlock(const BlockProblem& problem, const BlockClass& device, double seconds) {
  int64_t longest = 0;
  size_t begin = 0;
  for (size_t end = 1; end < problem.bytes.size(); ++end) {
    while (begin < end && (problem.bytes[end] - problem.bytes[begin] > device.budget ||
                           device.seconds[end] - device.seconds[begin] > seconds)) {
      ++begin;
    }
    longest = std::max(longest, static_cast<int64_t>(end - begin));
  }
  return longest;
}

/// False only where no cut can have all its blocks, hand-overs included, within `seconds`.
bool MayBeWithin(const BlockProblem& problem, double seconds, double least_hop) {
  int64_t covered = 0;
  int64_t without_hop = 0;  // what one device gains by being the last
  bool has_last = false;
  const size_t units = problem.bytes.size() - 1;
  for (const BlockClass& device : problem.classes) {
    const int64_t with = LongestBlock(problem, device, seconds - least_hop);
    covered += with * std::min(device.count, problem.units());
    without_hop = std::max(without_hop, LongestBlock(problem, device, seconds) - with);
    has_last = has_last || device.seconds[units] - device.seconds[units - 1] <= seconds;
  }
  return has_last && covered + without_hop >= problem.units();
}

size_t UsableOf(const BlockProblem& problem, const BlockClass& device) {
  return static_cast<size_t>(std::min(device.count, problem.units()));
}

int64_t MostBlocksOf(const BlockProblem& problem) {
  return problem.most_blocks > 0 ? std::min(problem.most_blocks, problem.units()) : problem.units();
}

/// The more units a set of devices covers the better: what is left over fits wherever more fitted.
/// So one number per set is enough.
class SetCover {
 public:
  explicit SetCover(const BlockProblem& problem) : problem_(problem) {
    size_t codes = 1;
    for (const BlockClass& device : problem.classes) {
      steps_.push_back(codes);
      sizes_.push_back(UsableOf(problem, device) + 1);
      codes *= sizes_.back();
    }
    sets_.resize(codes);
  }

  std::vector<Block> Run() {
    for (size_t code = 0; code < sets_.size(); ++code) {
      if (sets_[code].covered == problem_.units()) return Trace(code);
      if (sets_[code].blocks < MostBlocksOf(problem_)) Extend(code);
    }
    return {};
  }

 private:
  struct Set {
    int64_t covered = 0;
    int32_t blocks = 0;
    uint32_t last = 0;  // class
  };

  void Extend(size_t code) {
    const Set from = sets_[code];
    for (size_t c = 0; c < steps_.size(); ++c) {
      if (code / steps_[c] % sizes_[c] + 1 == sizes_[c]) continue;
      Set& to = sets_[code + steps_[c]];
      to.blocks = from.blocks + 1;
      const int64_t end = Farthest(problem_, problem_.classes[c], from.covered);
      if (end > to.covered) {
        to.covered = end;
        to.last = static_cast<uint32_t>(c);
      }
    }
  }

  /// Sets that cover no more for their last device hand on what was covered without it: blocks of
  /// no unit are left out.
  std::vector<Block> Trace(size_t code) const {
    std::vector<Block> blocks;
    while (sets_[code].covered > 0) {
      const size_t c = sets_[code].last;
      const size_t before = code - steps_[c];
      const Block block{c, sets_[before].covered, sets_[code].covered};
      if (block.end > block.begin) blocks.push_back(block);
      code = before;
    }
    std::reverse(blocks.begin(), blocks.end());
    return blocks;
  }

  const BlockProblem& problem_;
  std::vector<size_t> steps_;
  std::vector<size_t> sizes_;
  std::vector<Set> sets_;
};

/// How far the classes reach in their order with at most so many blocks.
bool CoversInOrder(const BlockProblem& problem) {
  const auto most = static_cast<size_t>(MostBlocksOf(problem));
  std::vector<int64_t> covered(most + 1, 0);  // by the number of blocks
  for (const BlockClass& device : problem.classes) {
    for (size_t blocks = most; blocks > 0; --blocks) {
      covered[blocks] = std::max(covered[blocks], Farthest(problem, device, covered[blocks - 1]));
    }
  }
  return covered.back() == problem.units();
}

}  // namespace

bool IsCoverable(const BlockProblem& problem) {
  if (problem.in_order) return true;
  if (problem.use_all) return IsSmall(problem);
  double sets = static_cast<double>(problem.classes.size());
  for (const BlockClass& device : problem.classes) {
    sets *= static_cast<double>(UsableOf(problem, device) + 1);
    if (sets > kSets) return false;
  }
  return true;
}

std::vector<Block> Cover(const BlockProblem& problem) { return SetCover(problem).Run(); }

bool CanCover(const BlockProblem& problem) {
  if (problem.use_all) return BestBlocks(problem).has_value();
  return problem.in_order ? CoversInOrder(problem) : !Cover(problem).empty();
}

double LowerBound(const BlockProblem& problem) {
  if (problem.goal == BlockGoal::kSum) {
    double sum = 0;
    for (size_t unit = 0; unit + 1 < problem.bytes.size(); ++unit) {
      double fastest = kInfinity;
      for (const BlockClass& device : problem.classes) {
        fastest = std::min(fastest, device.seconds[unit + 1] - device.seconds[unit]);
      }
      sum += fastest;
    }
    return sum;
  }
  double least_hop = kInfinity;
  double high = 0;
  for (size_t c = 0; c < problem.classes.size(); ++c) {
    high = std::max(high, problem.classes[c].seconds.back());
    for (const double hop : problem.hops[c]) least_hop = std::min(least_hop, hop);
  }
  high += least_hop;
  double low = 0;
  for (int i = 0; i < 100 && low < high; ++i) {
    const double middle = (low + high) / 2;
    (MayBeWithin(problem, middle, least_hop) ? high : low) = middle;
  }
  return high;
}

}  // namespace xcomposer
