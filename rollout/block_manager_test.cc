#include "rollout/block_manager.h"

#include <numeric>

#include "gtest/gtest.h"
#include "kernels/model/kv_cache.h"

namespace temper {
namespace {

Sequence MakeSequence(int64_t id, int64_t tokens, int32_t first_token = 0) {
  Sequence sequence;
  sequence.id = id;
  sequence.record.tokens.resize(tokens);
  std::iota(sequence.record.tokens.begin(), sequence.record.tokens.end(),
            first_token);
  return sequence;
}

void Compute(BlockManager* blocks, Sequence* sequence, uint64_t version) {
  const int64_t size = sequence->record.size();
  ASSERT_TRUE(blocks->Grow(sequence, size));
  sequence->computed = size;
  blocks->Register(sequence, version);
  sequence->record.route_versions.resize(size, version);
}

TEST(BlockManagerTest, GrowIsAllOrNothing) {
  BlockManager blocks(3);
  Sequence a = MakeSequence(1, 200);
  EXPECT_FALSE(blocks.Grow(&a, 4 * kPageTokens));
  EXPECT_TRUE(a.pages.empty());
  EXPECT_EQ(blocks.free_pages(), 3);
  EXPECT_TRUE(blocks.Grow(&a, 2 * kPageTokens + 1));
  EXPECT_EQ(a.pages.size(), 3u);
  EXPECT_EQ(blocks.free_pages(), 0);
  blocks.CheckIntegrity({&a});
}

TEST(BlockManagerTest, EqualPrefixSharesWholePagesOnly) {
  BlockManager blocks(8);
  Sequence a = MakeSequence(1, 2 * kPageTokens + 10);
  Compute(&blocks, &a, 7);
  Sequence b = MakeSequence(2, 2 * kPageTokens + 10);
  EXPECT_EQ(blocks.MatchPrefix(&b, 7), 2 * kPageTokens);
  EXPECT_EQ(b.pages[0], a.pages[0]);
  EXPECT_EQ(b.pages[1], a.pages[1]);
  blocks.CheckIntegrity({&a, &b});
  Sequence c = MakeSequence(3, 2 * kPageTokens + 10);
  c.record.tokens[kPageTokens] += 1;
  EXPECT_EQ(blocks.MatchPrefix(&c, 7), kPageTokens);
  Sequence d = MakeSequence(4, 2 * kPageTokens + 10);
  d.record.tokens[0] += 1;
  EXPECT_EQ(blocks.MatchPrefix(&d, 7), 0) << "second page without the first";
}

TEST(BlockManagerTest, LastTokenIsAlwaysLeftToCompute) {
  BlockManager blocks(8);
  Sequence a = MakeSequence(1, 2 * kPageTokens);
  Compute(&blocks, &a, 1);
  Sequence b = MakeSequence(2, 2 * kPageTokens);
  EXPECT_EQ(blocks.MatchPrefix(&b, 1), kPageTokens);
}

TEST(BlockManagerTest, PrefixOfOtherWeightsIsNotFound) {
  BlockManager blocks(8);
  Sequence a = MakeSequence(1, 100);
  Compute(&blocks, &a, 1);
  Sequence b = MakeSequence(2, 100);
  EXPECT_EQ(blocks.MatchPrefix(&b, 2), 0);
}

TEST(BlockManagerTest, PagesWithRoutesOfOlderWeightsAreOtherPages) {
  BlockManager blocks(8);
  Sequence old = MakeSequence(1, 100);
  old.record.route_versions.assign(100, 1);
  Compute(&blocks, &old, 2);
  Sequence fresh = MakeSequence(2, 100);
  EXPECT_EQ(blocks.MatchPrefix(&fresh, 2), 0);
  Sequence sibling = MakeSequence(3, 100);
  sibling.record.route_versions.assign(100, 1);
  EXPECT_EQ(blocks.MatchPrefix(&sibling, 2), kPageTokens);
}

TEST(BlockManagerTest, ReleasedPagesAreFoundUntilTheyAreNeeded) {
  BlockManager blocks(2);
  Sequence a = MakeSequence(1, kPageTokens + 5);
  Compute(&blocks, &a, 1);
  blocks.Release(&a);
  EXPECT_EQ(blocks.free_pages(), 2);
  EXPECT_EQ(blocks.MatchPrefix(&a, 1), kPageTokens);
  blocks.Release(&a);
  Sequence other = MakeSequence(2, 2 * kPageTokens, 5000);
  Compute(&blocks, &other, 1);
  blocks.Release(&other);
  EXPECT_EQ(blocks.MatchPrefix(&a, 1), 0);
  blocks.CheckIntegrity({&a, &other});
}

TEST(BlockManagerTest, ForgetAllLeavesHeldPagesHeld) {
  BlockManager blocks(4);
  Sequence a = MakeSequence(1, 100);
  Compute(&blocks, &a, 1);
  blocks.ForgetAll();
  EXPECT_EQ(blocks.free_pages(), 2);
  Sequence b = MakeSequence(2, 100);
  EXPECT_EQ(blocks.MatchPrefix(&b, 1), 0);
  blocks.CheckIntegrity({&a, &b});
}

TEST(BlockManagerDeathTest, IntegrityCheckFindsALeakedPage) {
  BlockManager blocks(4);
  Sequence a = MakeSequence(1, 100);
  Compute(&blocks, &a, 1);
  EXPECT_DEATH(blocks.CheckIntegrity({}), "page");
}

}  // namespace
}  // namespace temper
