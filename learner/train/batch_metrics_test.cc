#include "learner/train/batch_metrics.h"

#include <map>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"

namespace temper {
namespace {

std::map<std::string, std::optional<double>> ByName(
    const std::vector<MetricValue>& metrics) {
  std::map<std::string, std::optional<double>> by_name;
  for (const MetricValue& metric : metrics) by_name[metric.name] = metric.value;
  return by_name;
}

TEST(BatchMetricsTest, TimesAreMeanSecondsOfAnEpisode) {
  std::vector<Trajectory> batch = {FixtureTrajectory(1, 0),
                                   FixtureTrajectory(1, 1)};
  batch[0].set_environment_us(1'500'000);
  batch[1].set_environment_us(500'000);
  batch[0].set_reward_us(2'000);
  const auto metrics = ByName(BatchMetrics(batch));
  EXPECT_DOUBLE_EQ(*metrics.at("time/environment"), 1);
  EXPECT_DOUBLE_EQ(*metrics.at("time/reward"), 0.001);
}

TEST(BatchMetricsTest, OutcomesAreSharesUnderTheirNames) {
  std::vector<Trajectory> batch = {
      FixtureTrajectory(1, 0), FixtureTrajectory(1, 1), FixtureTrajectory(2, 0),
      FixtureTrajectory(2, 1)};
  batch[2].set_outcome(OUTCOME_MODEL_ERROR);
  const auto metrics = ByName(BatchMetrics(batch));
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/ok"), 0.75);
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/model_error"), 0.25);
  EXPECT_DOUBLE_EQ(*metrics.at("response_length/mean"), 2);
}

TEST(BatchMetricsTest, AMaskHasASizeOnlyWhereSamplingWasTruncated) {
  // Two tokens each, the first with a kept set of two, of the whole vocabulary
  // the second.
  std::vector<Trajectory> batch = {FixtureTrajectory(1, 0),
                                   FixtureTrajectory(1, 1)};
  EXPECT_EQ(ByName(BatchMetrics(batch)).at("sampling_mask/mean_size"), 2.0);
  // The mean is over tokens, not over branches.
  Branch* branch = batch[0].mutable_branches(0);
  branch->set_kept_offsets(PackArray<uint32_t>({0, 2, 7}));
  branch->set_kept_ids(PackArray<int32_t>({4, 7, 0, 1, 2, 3, 8}));
  EXPECT_EQ(ByName(BatchMetrics(batch)).at("sampling_mask/mean_size"), 3.0);
  for (Trajectory& trajectory : batch) {
    branch = trajectory.mutable_branches(0);
    branch->set_kept_offsets(PackArray<uint32_t>({0, 0, 0}));
    branch->clear_kept_ids();
  }
  const auto metrics = ByName(BatchMetrics(batch));
  ASSERT_EQ(metrics.count("sampling_mask/mean_size"), 1u);
  EXPECT_EQ(metrics.at("sampling_mask/mean_size"), std::nullopt);
}

TEST(BatchMetricsTest, EqualRewardsDeviateByExactlyZero) {
  std::vector<Trajectory> batch;
  for (uint32_t sample = 0; sample < 8; ++sample) {
    batch.push_back(FixtureTrajectory(1, sample));
    batch.back().set_reward(1.1);
  }
  auto metrics = ByName(BatchMetrics(batch));
  EXPECT_EQ(metrics.at("reward/std"), 0.0);
  EXPECT_EQ(metrics.at("frac_reward_zero_std"), 1.0);
  // Nor does a large mean hide a small deviation.
  for (uint32_t sample = 0; sample < 8; ++sample) {
    batch[sample].set_reward(100 + (sample % 2 == 0 ? 1e-7 : -1e-7));
  }
  metrics = ByName(BatchMetrics(batch));
  EXPECT_NEAR(*metrics.at("reward/std"), 1e-7, 1e-12);
}

}  // namespace
}  // namespace temper
