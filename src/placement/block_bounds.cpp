#include "placement/block_bounds.h"

#include <algorithm>
#include <limits>

namespace xcomposer {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

}  // namespace

bool IsQuickToCover(const BlockProblem& problem) {
  constexpr double kSteps = 3e6;  // some hundredths of a second: alternatives ask a hundred times
  double sets = 1;
  for (const BlockClass& device : problem.classes) {
    sets *= static_cast<double>(std::min(device.count, problem.units()) + 1);
  }
  return sets * static_cast<double>(problem.classes.size()) <= kSteps;
}

// The more units a set of devices covers the better: what is left over fits wherever more fitted.
// So one number per set is enough, and the device that reached it.
std::optional<std::vector<size_t>> CoveringClasses(const BlockProblem& problem) {
  struct Reached {
    int64_t units = 0;
    size_t last = 0;  // class
  };
  std::vector<size_t> steps;
  std::vector<size_t> sizes;
  size_t codes = 1;
  for (const BlockClass& device : problem.classes) {
    steps.push_back(codes);
    sizes.push_back(static_cast<size_t>(std::min(device.count, problem.units())) + 1);
    codes *= sizes.back();
  }
  std::vector<Reached> covered(codes);
  for (size_t code = 0; code < codes; ++code) {
    if (covered[code].units == problem.units()) {
      std::vector<size_t> order;
      for (size_t left = code; left > 0; left -= steps[order.back()]) {
        order.push_back(covered[left].last);
      }
      return std::vector<size_t>(order.rbegin(), order.rend());
    }
    for (size_t c = 0; c < steps.size(); ++c) {
      if (code / steps[c] % sizes[c] + 1 == sizes[c]) continue;
      Reached& with = covered[code + steps[c]];
      const int64_t units = Farthest(problem, problem.classes[c], covered[code].units);
      if (units > with.units) with = {units, c};
    }
  }
  return std::nullopt;
}

bool CanCover(const BlockProblem& problem) {
  if (problem.use_all) return BestBlocks(problem).has_value();
  return CoveringClasses(problem).has_value();
}

bool CanCoverInOrder(const BlockProblem& problem) {
  if (problem.use_all) return BestBlocksInOrder(problem).has_value();
  int64_t covered = 0;
  for (const BlockClass& device : problem.classes) covered = Farthest(problem, device, covered);
  return covered == problem.units();
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
