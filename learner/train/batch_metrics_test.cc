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

// As the door makes it of the fixture's trajectory.
Episode Admitted(uint64_t group, uint32_t sample) {
  return *TrajectoryDoor::Create(FixtureLimits())
              ->Admit(FixtureTrajectory(group, sample),
                      [](uint64_t) { return true; });
}

TEST(BatchMetricsTest, TimesAreMeanSecondsOfAnEpisode) {
  std::vector<Episode> batch = {Admitted(1, 0), Admitted(1, 1)};
  batch[0].environment_us = 1'500'000;
  batch[1].environment_us = 500'000;
  batch[0].reward_us = 2'000;
  const auto metrics = ByName(BatchMetrics(batch));
  EXPECT_DOUBLE_EQ(*metrics.at("time/environment"), 1);
  EXPECT_DOUBLE_EQ(*metrics.at("time/reward"), 0.001);
}

TEST(BatchMetricsTest, OutcomesAreSharesUnderTheirNames) {
  std::vector<Episode> batch = {Admitted(1, 0), Admitted(1, 1), Admitted(2, 0),
                                Admitted(2, 1)};
  batch[2].outcome = OUTCOME_MODEL_ERROR;
  const auto metrics = ByName(BatchMetrics(batch));
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/ok"), 0.75);
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/model_error"), 0.25);
  EXPECT_DOUBLE_EQ(*metrics.at("response_length/mean"), 2);
  EXPECT_DOUBLE_EQ(*metrics.at("num_turns/mean"), 1);
  EXPECT_DOUBLE_EQ(*metrics.at("rewards/rule/mean"), 1.5);
}

TEST(BatchMetricsTest, AMaskHasASizeOnlyWhereSamplingWasTruncated) {
  // Two tokens each, the first with a kept set of two, of the whole vocabulary
  // the second.
  std::vector<Episode> batch = {Admitted(1, 0), Admitted(1, 1)};
  EXPECT_EQ(ByName(BatchMetrics(batch)).at("sampling_mask/mean_size"), 2.0);
  // The mean is over tokens, not over branches.
  batch[0].branches[0].kept_offsets = {0, 2, 7};
  EXPECT_EQ(ByName(BatchMetrics(batch)).at("sampling_mask/mean_size"), 3.0);
  for (Episode& episode : batch) {
    episode.branches[0].kept_offsets = {0, 0, 0};
  }
  const auto metrics = ByName(BatchMetrics(batch));
  ASSERT_EQ(metrics.count("sampling_mask/mean_size"), 1u);
  EXPECT_EQ(metrics.at("sampling_mask/mean_size"), std::nullopt);
}

TEST(BatchMetricsTest, EqualRewardsDeviateByExactlyZero) {
  std::vector<Episode> batch;
  for (uint32_t sample = 0; sample < 8; ++sample) {
    batch.push_back(Admitted(1, sample));
    batch.back().reward = 1.1;
  }
  auto metrics = ByName(BatchMetrics(batch));
  EXPECT_EQ(metrics.at("reward/std"), 0.0);
  EXPECT_EQ(metrics.at("frac_reward_zero_std"), 1.0);
  // Nor does a large mean hide a small deviation.
  for (uint32_t sample = 0; sample < 8; ++sample) {
    batch[sample].reward = 100 + (sample % 2 == 0 ? 1e-7 : -1e-7);
  }
  metrics = ByName(BatchMetrics(batch));
  EXPECT_NEAR(*metrics.at("reward/std"), 1e-7, 1e-12);
}

}  // namespace
}  // namespace temper
