#include "rollout/branch.h"

#include <cstring>

#include "gtest/gtest.h"

namespace temper {
namespace {

ModelConfig TwoMoeLayers(int64_t experts) {
  ModelConfig config;
  config.num_hidden_layers = 3;
  config.first_k_dense_replace = 1;
  config.n_routed_experts = experts;
  config.num_experts_per_tok = 2;
  return config;
}

// Tokens 10 20 | 30 40 sampled | 50 appended and never answered.
SequenceRecord ThreeTurns() {
  SequenceRecord record;
  record.tokens = {10, 20, 30, 40, 50};
  record.sampled = {0, 0, 1, 1, 0};
  record.logprobs = {-0.5f, -1.5f};
  record.kept_offsets = {0, 2, 2};
  record.kept_ids = {30, 31};
  record.versions = {4, 5};
  record.routes = {1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3};
  record.route_versions = {4, 4, 5};
  return record;
}

TEST(BranchTest, PacksEveryArrayUpToTheLastSampledToken) {
  const Branch branch = PackBranch(ThreeTurns(), TwoMoeLayers(16));
  const int32_t tokens[] = {10, 20, 30, 40};
  EXPECT_EQ(branch.tokens(),
            std::string(reinterpret_cast<const char*>(tokens), 16));
  EXPECT_EQ(branch.sampled(), std::string("\x0c", 1));
  ASSERT_EQ(branch.logprobs().size(), 8u);
  float second;
  std::memcpy(&second, branch.logprobs().data() + 4, 4);
  EXPECT_EQ(second, -1.5f);
  const uint32_t offsets[] = {0, 2, 2};
  EXPECT_EQ(branch.kept_offsets(),
            std::string(reinterpret_cast<const char*>(offsets), 12));
  EXPECT_EQ(branch.route_bytes(), 1u);
  EXPECT_EQ(branch.routes(), std::string("\1\2\3\4\5\6\7\10\0\1\2\3", 12));
}

TEST(BranchTest, VersionsBecomeSpansOfSampledTokens) {
  const Branch branch = PackBranch(ThreeTurns(), TwoMoeLayers(16));
  ASSERT_EQ(branch.versions_size(), 2);
  EXPECT_EQ(branch.versions(0).begin(), 0u);
  EXPECT_EQ(branch.versions(0).end(), 1u);
  EXPECT_EQ(branch.versions(0).version(), 4u);
  EXPECT_EQ(branch.versions(1).end(), 2u);
  EXPECT_EQ(branch.versions(1).version(), 5u);
}

TEST(BranchTest, RoutesTakeTwoBytesAbove256Experts) {
  SequenceRecord record = ThreeTurns();
  record.routes[0] = 300;
  const Branch branch = PackBranch(record, TwoMoeLayers(512));
  EXPECT_EQ(branch.route_bytes(), 2u);
  ASSERT_EQ(branch.routes().size(), 24u);
  uint16_t first;
  std::memcpy(&first, branch.routes().data(), 2);
  EXPECT_EQ(first, 300);
}

TEST(BranchDeathTest, MissingRoutesAreOurBug) {
  SequenceRecord record = ThreeTurns();
  record.route_versions.resize(2);
  EXPECT_DEATH(PackBranch(record, TwoMoeLayers(16)), "routes of");
}

}  // namespace
}  // namespace temper
