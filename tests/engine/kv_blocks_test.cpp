#include "engine/kv_blocks.h"

#include <gtest/gtest.h>

#include <utility>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

TEST(BlockPool, CountsBlocksAndRefusesWhenEmpty) {
  BlockPool pool(2, 4);
  EXPECT_EQ(pool.BlocksFor(0), 0);
  EXPECT_EQ(pool.BlocksFor(4), 1);
  EXPECT_EQ(pool.BlocksFor(5), 2);
  const int32_t first = pool.Take();
  const int32_t second = pool.Take();
  EXPECT_NE(first, second);
  EXPECT_THROW(pool.Take(), Error);
  pool.Drop(first);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.Take(), first);
}

TEST(BlockTable, GrowsByBlocksAndGivesThemBack) {
  BlockPool pool(4, 4);
  std::vector<BlockCopy> copies;
  {
    BlockTable table(&pool);
    table.Prepare(0, 3, &copies);
    EXPECT_EQ(pool.free(), 3);
    table.Prepare(3, 9, &copies);
    EXPECT_EQ(pool.free(), 1);
    EXPECT_EQ(table.Covering(4).size(), 1u);
    EXPECT_EQ(table.Covering(5).size(), 2u);
    EXPECT_EQ(table.Covering(12).size(), 3u);
    EXPECT_THROW(table.Covering(13), Error);
    BlockTable moved(std::move(table));
    table = std::move(moved);
    EXPECT_EQ(pool.free(), 1);
  }
  EXPECT_EQ(pool.free(), 4);
  EXPECT_TRUE(copies.empty());
}

TEST(BlockTable, ForksShareUntilOneWrites) {
  BlockPool pool(8, 4);
  std::vector<BlockCopy> copies;
  BlockTable table(&pool);
  table.Prepare(0, 6, &copies);  // one full block, one half
  BlockTable fork = table.Fork();
  EXPECT_EQ(pool.free(), 6);
  fork.Prepare(6, 7, &copies);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, table.Covering(6)[1]);
  EXPECT_EQ(copies[0].to, fork.Covering(7)[1]);
  EXPECT_EQ(fork.Covering(7)[0], table.Covering(6)[0]);
  table.Prepare(6, 7, &copies);  // alone on its half block by now
  EXPECT_EQ(copies.size(), 1u);
  EXPECT_EQ(pool.free(), 5);
}

TEST(BlockTable, AForkAtABlockBorderCopiesNothing) {
  BlockPool pool(8, 4);
  std::vector<BlockCopy> copies;
  BlockTable table(&pool);
  table.Prepare(0, 8, &copies);
  BlockTable fork = table.Fork();
  fork.Prepare(8, 9, &copies);
  table.Prepare(8, 9, &copies);
  EXPECT_TRUE(copies.empty());
  EXPECT_NE(fork.Covering(9)[2], table.Covering(9)[2]);
  EXPECT_EQ(pool.free(), 4);
}

TEST(MaxBlocks, BeamsShareTheFullBlocksOfThePrompt) {
  const BlockPool pool(100, 4);
  EXPECT_EQ(MaxBlocks(pool, {10, 17, 1, true}), 5);
  EXPECT_EQ(MaxBlocks(pool, {10, 17, 3, true}), 2 + 3 * 3);
  EXPECT_EQ(MaxBlocks(pool, {10, 17, 3, false}), 15);
}

}  // namespace
}  // namespace xcomposer
