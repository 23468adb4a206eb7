#pragma once

#include <cstdint>
#include <optional>
#include <vector>

/// The search behind the planner, in bare numbers: a sequence of units is cut into contiguous
/// blocks, and each block goes to a device of its own.
namespace xcomposer {

/// Devices that are alike in everything: budget, speed and links. Sums run over the units before
/// the index, so that a block [b, e) costs sum[e] - sum[b].
struct BlockClass {
  int64_t count = 1;
  int64_t budget = 0;           ///< bytes that units may take
  std::vector<double> seconds;  ///< (units + 1) sums
};

enum class BlockGoal { kSlowest, kSum };

struct BlockProblem {
  std::vector<int64_t> bytes;  ///< (units + 1) sums
  std::vector<BlockClass> classes;
  /// hops[c][d]: seconds that a block on a device of class c adds when the next block is on one of
  /// class d.
  std::vector<std::vector<double>> hops;
  BlockGoal goal = BlockGoal::kSlowest;
  bool use_all = false;  ///< every device must get a block

  int64_t units() const { return static_cast<int64_t>(bytes.size()) - 1; }
};

struct Block {
  size_t device_class = 0;
  int64_t begin = 0;
  int64_t end = 0;

  friend bool operator==(const Block&, const Block&) = default;
};

struct BlockAnswer {
  std::vector<Block> blocks;
  double value = 0;     ///< seconds
  int64_t missing = 0;  ///< bytes over the budgets, 0 where it fits
};

/// True where the exact search over all subsets and orders is quick.
bool IsSmall(const BlockProblem& problem);

/// The best of all cuts over all subsets of the devices in all orders; among equals the one with
/// the fewest blocks, then the one that leaves the fullest device the most room. Nothing where
/// none fits.
std::optional<BlockAnswer> BestBlocks(const BlockProblem& problem);

/// The cut that exceeds the budgets by the fewest bytes in all.
BlockAnswer LeastMissing(const BlockProblem& problem);

/// The same two with the classes (of one device each) in the given order; any may be left out
/// unless `use_all`.
std::optional<BlockAnswer> BestBlocksInOrder(const BlockProblem& problem);
BlockAnswer LeastMissingInOrder(const BlockProblem& problem);

}  // namespace xcomposer
