#pragma once

#include <cstdint>

// For the functions that divide work over threads.
namespace xcomposer::cpu {

inline int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return DivideUp(a, b) * b; }

/// Rows in blocks of equal size, the last one perhaps smaller; none is empty.
struct EqualBlocks {
  /// About `most` rows to a block, in whole panels.
  EqualBlocks(int64_t all, int64_t most, int64_t panel)
      : rows(RoundUp(DivideUp(all, DivideUp(all, most)), panel)), count(DivideUp(all, rows)) {}
  int64_t rows;   ///< of a block
  int64_t count;  ///< of blocks
};

}  // namespace xcomposer::cpu
