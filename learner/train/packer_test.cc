#include "learner/train/packer.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.num_hidden_layers = 2;
  config.first_k_dense_replace = 1;
  config.num_experts_per_tok = 2;
  return config;
}

// Branch of `tokens` whose last `sampled` tokens were sampled; the route of
// position p is (p % 3, 3).
Episode MakeEpisode(uint64_t group, uint32_t sample,
                    const std::vector<int32_t>& tokens, int sampled) {
  EpisodeBranch branch;
  branch.tokens = tokens;
  const int total = static_cast<int>(tokens.size());
  branch.kept_offsets.push_back(0);
  for (int p = total - sampled; p < total; ++p) {
    branch.sampled.push_back(p);
    branch.logprobs.push_back(-0.5f);
    branch.kept_ids.push_back(tokens[p]);
    branch.kept_offsets.push_back(static_cast<int32_t>(branch.kept_ids.size()));
  }
  for (int p = 0; p + 1 < total; ++p) {
    branch.routes.push_back(p % 3);
    branch.routes.push_back(3);
  }
  Episode episode;
  episode.group = group;
  episode.sample = sample;
  episode.branches.push_back(branch);
  return episode;
}

std::vector<int32_t> KeysSeen(const TokenBatch& batch, int32_t row) {
  std::vector<int32_t> tokens;
  for (int32_t j = 0; j <= batch.position[row]; ++j) {
    const int32_t key =
        batch.blocks[batch.sequence[row] * batch.blocks_max + j];
    tokens.push_back(batch.tokens[key]);
  }
  return tokens;
}

TEST(PackerTest, ASharedPromptIsPackedOnceAndReadByAll) {
  const Episode a = MakeEpisode(1, 0, {9, 8, 7, 1, 2}, 2);
  const Episode b = MakeEpisode(1, 1, {9, 8, 7, 3, 4}, 2);
  const auto batches =
      PackEpisodes(Config(), {&a, &b}, 100, true, PrefixSharing::kShared);
  ASSERT_TRUE(batches.ok());
  ASSERT_EQ(batches->size(), 1u);
  const PackedBatch& packed = batches->front();
  EXPECT_EQ(packed.batch.size(), 5);  // 9 8 7 1 | 3
  EXPECT_EQ(packed.tokens_unshared, 8);
  ASSERT_EQ(packed.sampled.size(), 4u);
  // The two first sampled tokens are predicted by the same shared row.
  EXPECT_EQ(packed.sampled[0].row, packed.sampled[2].row);
  EXPECT_EQ(KeysSeen(packed.batch, packed.sampled[1].row),
            (std::vector<int32_t>{9, 8, 7, 1}));
  EXPECT_EQ(KeysSeen(packed.batch, packed.sampled[3].row),
            (std::vector<int32_t>{9, 8, 7, 3}));
}

TEST(PackerTest, DifferentRoutesAreNotShared) {
  const Episode a = MakeEpisode(1, 0, {9, 8, 7, 1, 2}, 2);
  Episode b = MakeEpisode(1, 1, {9, 8, 7, 3, 4}, 2);
  b.branches[0].routes[2] = 2;  // position 1
  const auto batches =
      PackEpisodes(Config(), {&a, &b}, 100, true, PrefixSharing::kShared);
  ASSERT_TRUE(batches.ok());
  EXPECT_EQ(batches->front().batch.size(), 7);
}

TEST(PackerTest, BatchesAreBoundedAndEpisodesWhole) {
  const Episode a = MakeEpisode(1, 0, {9, 8, 7, 1, 2}, 2);
  const Episode b = MakeEpisode(1, 1, {5, 8, 7, 3, 4}, 2);
  const auto batches =
      PackEpisodes(Config(), {&a, &b}, 6, true, PrefixSharing::kShared);
  ASSERT_TRUE(batches.ok());
  ASSERT_EQ(batches->size(), 2u);
  EXPECT_EQ(batches->at(1).sampled[0].episode, 1);
  const auto refused =
      PackEpisodes(Config(), {&a}, 3, true, PrefixSharing::kShared);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(PackerTest, BlockTablesAreBoundedToo) {
  // Of 90 rows, all but the last one shared: eleven are 100 rows, but their
  // table has 990 entries.
  std::vector<Episode> episodes;
  std::vector<const Episode*> batch;
  for (int i = 0; i < 11; ++i) {
    std::vector<int32_t> tokens(91, 7);
    tokens[89] = i;
    episodes.push_back(MakeEpisode(1, i, tokens, 1));
  }
  for (const Episode& episode : episodes) batch.push_back(&episode);
  const auto batches =
      PackEpisodes(Config(), batch, 100, true, PrefixSharing::kShared);
  ASSERT_TRUE(batches.ok());
  ASSERT_EQ(batches->size(), 2u);
  EXPECT_EQ(batches->at(0).batch.blocks.size(), 8u * 90);
  EXPECT_EQ(batches->at(1).batch.blocks.size(), 3u * 90);
}

TEST(PackerTest, WithoutKeptRoutingEveryRouteIsLive) {
  const Episode a = MakeEpisode(1, 0, {9, 8, 7}, 1);
  const auto batches =
      PackEpisodes(Config(), {&a}, 100, false, PrefixSharing::kShared);
  ASSERT_TRUE(batches.ok());
  for (const int32_t route : batches->front().batch.routes) {
    EXPECT_EQ(route, -1);
  }
}

}  // namespace
}  // namespace temper
