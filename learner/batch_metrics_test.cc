#include "learner/batch_metrics.h"

#include <map>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "learner/trajectory_fixture.h"

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
      FixtureTrajectory(1, 0), FixtureTrajectory(1, 1),
      FixtureTrajectory(2, 0), FixtureTrajectory(2, 1)};
  batch[2].set_outcome(OUTCOME_MODEL_ERROR);
  const auto metrics = ByName(BatchMetrics(batch));
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/ok"), 0.75);
  EXPECT_DOUBLE_EQ(*metrics.at("outcome/model_error"), 0.25);
  EXPECT_DOUBLE_EQ(*metrics.at("response_length/mean"), 2);
}

}  // namespace
}  // namespace temper
