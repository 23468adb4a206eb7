#include "engine/kv_blocks.h"

#include <utility>

#include "base/check.h"

namespace xcomposer {

BlockPool::BlockPool(int64_t blocks, int64_t block_size)
    : block_size_(block_size), references_(blocks, 0) {
  for (int64_t block = blocks - 1; block >= 0; --block)
    free_.push_back(static_cast<int32_t>(block));
}

int64_t BlockPool::BlocksFor(int64_t rows) const {
  return rows / block_size_ + (rows % block_size_ != 0 ? 1 : 0);
}

int32_t BlockPool::Take() {
  Check(!free_.empty(), "no free KV block although admission had reserved one");
  const int32_t block = free_.back();
  free_.pop_back();
  references_[block] = 1;
  return block;
}

void BlockPool::Share(int32_t block) { ++references_[block]; }

void BlockPool::Drop(int32_t block) {
  if (--references_[block] == 0) free_.push_back(block);
}

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(other.pool_), blocks_(std::exchange(other.blocks_, {})) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this != &other) {
    Clear();
    pool_ = other.pool_;
    blocks_ = std::exchange(other.blocks_, {});
  }
  return *this;
}

BlockTable BlockTable::Fork() const {
  BlockTable fork(pool_);
  fork.blocks_ = blocks_;
  for (const int32_t block : blocks_) pool_->Share(block);
  return fork;
}

void BlockTable::Prepare(int64_t begin, int64_t end, std::vector<BlockCopy>* copies) {
  const int64_t size = pool_->block_size();
  const int64_t present = static_cast<int64_t>(blocks_.size());
  for (int64_t index = begin / size; index < pool_->BlocksFor(end); ++index) {
    if (index >= present) {
      blocks_.push_back(pool_->Take());
    } else if (pool_->Shared(blocks_[index])) {
      const int32_t own = pool_->Take();
      // A block whose first position is rewritten has nothing worth copying.
      if (index * size < begin) copies->push_back({blocks_[index], own});
      pool_->Drop(blocks_[index]);
      blocks_[index] = own;
    }
  }
}

std::vector<int32_t> BlockTable::Covering(int64_t rows) const {
  const int64_t count = pool_->BlocksFor(rows);
  Check(count <= static_cast<int64_t>(blocks_.size()), "a block table of ", blocks_.size(),
        " blocks cannot hold ", rows, " rows");
  return {blocks_.begin(), blocks_.begin() + count};
}

void BlockTable::Clear() {
  for (const int32_t block : blocks_) pool_->Drop(block);
  blocks_.clear();
}

int64_t MaxBlocks(const BlockPool& pool, const BlockDemand& demand) {
  const int64_t whole = pool.BlocksFor(demand.max_rows);
  if (demand.beams == 1) return whole;
  if (!demand.shares_prompt) return demand.beams * whole;
  const int64_t shared = demand.prompt_rows / pool.block_size();
  return shared + demand.beams * (whole - shared);
}

}  // namespace xcomposer
