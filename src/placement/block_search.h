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
  /// Blocks follow the order of the classes, of one device each; any may be left out. Otherwise
  /// any subset of the devices in any order.
  bool in_order = false;
  bool use_all = false;     ///< every device must get a block
  int64_t most_blocks = 0;  ///< 0: as many as there are devices

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

/// True where the exact search is quick.
bool IsSmall(const BlockProblem& problem);

/// The best of all cuts; among equals the one with the fewest blocks, then the one that leaves the
/// fullest device the most room. Nothing where none fits.
std::optional<BlockAnswer> BestBlocks(const BlockProblem& problem);

/// By the number of blocks, from 0 to `most_blocks`, which must be set: the value of the best cut
/// into so many; infinity where none fits.
std::vector<double> BestValues(const BlockProblem& problem);

/// The best cut into `count` blocks of at most `seconds` each, hand-overs included; for kSlowest
/// all of those are equal, and the one that leaves the fullest device the most room is taken.
std::optional<BlockAnswer> BestBlocksOf(const BlockProblem& problem, int64_t count, double seconds);

/// The cut that exceeds the budgets by the fewest bytes in all.
BlockAnswer LeastMissing(const BlockProblem& problem);

}  // namespace xcomposer
