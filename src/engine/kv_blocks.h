#pragma once

#include <cstdint>
#include <vector>

#include "batch/batch.h"

/// Who holds which physical block of the KV cache. Only numbers: the cache itself is the
/// executor's.
namespace xcomposer {

/// The blocks of the cache and how many sequences refer to each. Not thread-safe.
class BlockPool {
 public:
  BlockPool(int64_t blocks, int64_t block_size);

  int64_t block_size() const { return block_size_; }
  int64_t total() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

  /// Blocks that hold `rows` positions.
  int64_t BlocksFor(int64_t rows) const;

  /// A free block, with one reference. Throws kInternal if there is none: admission prevents that.
  int32_t Take();
  void Share(int32_t block);
  void Drop(int32_t block);
  bool Shared(int32_t block) const { return references_[block] > 1; }

 private:
  int64_t block_size_;
  std::vector<int32_t> references_;  // by block
  std::vector<int32_t> free_;
};

/// The blocks of one sequence, in order of position; gives them back when it goes. The pool must
/// live longer. Not thread-safe.
class BlockTable {
 public:
  explicit BlockTable(BlockPool* pool) : pool_(pool) {}
  ~BlockTable() { Clear(); }
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&& other) noexcept;

  /// A table over the same blocks.
  BlockTable Fork() const;

  /// Makes positions begin .. end writable by this sequence alone, where all positions below
  /// `begin` are there already. Blocks shared with a fork are replaced, and `copies` says what to
  /// copy first.
  void Prepare(int64_t begin, int64_t end, std::vector<BlockCopy>* copies);

  /// The blocks that hold positions 0 .. rows.
  std::vector<int32_t> Covering(int64_t rows) const;

  void Clear();

 private:
  BlockPool* pool_;
  std::vector<int32_t> blocks_;
};

/// Blocks that a request needs at most, at any moment.
struct BlockDemand {
  int64_t prompt_rows = 0;
  int64_t max_rows =
      0;  ///< of a sequence in the cache at the end: prompt and all new ids but the last
  int64_t beams = 1;
  bool shares_prompt = true;  ///< false where every beam computes its own rows
};

/// Beams share the full blocks of the prompt and have all others for themselves.
int64_t MaxBlocks(const BlockPool& pool, const BlockDemand& demand);

}  // namespace xcomposer
