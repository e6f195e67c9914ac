#include "learner/step_report.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::ElementsAre;

class StepReportTest : public testing::Test {
 protected:
  StepReportTest() {
    for (const uint32_t sample : {0u, 1u}) {
      Episode& episode = batch_.episodes.emplace_back();
      episode.group = 4;
      episode.sample = sample;
      episode.branches.resize(1);
      episode.branches[0].sampled = {2, 3};
    }
    batch_.groups = {4};
    batch_.ages = {1, 3};
    times_.started_unix_us = 1'700'000'000'000'000;
    times_.started_us = 1'000'000;
    times_.waiting_us = 1'500'000;
    times_.generated_us = 4'000'000;
    times_.trained_us = 5'000'000;
    times_.sync_seconds = 0.25;
    counts_.dropped_stale = 2;
  }

  StepRecord Make() {
    return MakeStepRecord(7, 9, batch_, trained_, times_, counts_);
  }
  std::map<std::string, std::optional<double>> Metrics() {
    std::map<std::string, std::optional<double>> metrics;
    for (const MetricValue& metric : Make().metrics) {
      EXPECT_TRUE(metrics.emplace(metric.name, metric.value).second)
          << metric.name << " twice";
    }
    return metrics;
  }

  TrainBatch batch_;
  StepMetrics trained_;
  StepTimes times_;
  BufferCounts counts_;
};

TEST_F(StepReportTest, TheRecordNamesSamplesTokensAndWhen) {
  trained_.trained = {{4, 1, -0.5, true, {-1.0f}}};
  const StepRecord record = Make();
  EXPECT_EQ(record.step, 7);
  EXPECT_EQ(record.weight_version, 9u);
  EXPECT_EQ(record.started_us, 1'700'000'000'000'000);
  EXPECT_EQ(record.tokens, 4);
  EXPECT_THAT(record.samples, ElementsAre(SampleKey{4, 0}, SampleKey{4, 1}));
  ASSERT_EQ(record.records.size(), 1u);
  EXPECT_EQ(record.records[0].key, (SampleKey{4, 1}));
  EXPECT_EQ(record.records[0].advantage, -0.5);
  EXPECT_TRUE(record.records[0].masked);
}

TEST_F(StepReportTest, TimesAreOfTheirPartsOfTheStep) {
  auto metrics = Metrics();
  EXPECT_EQ(metrics["time/step"], 4.0);
  EXPECT_EQ(metrics["time/generate"], 3.0);
  EXPECT_EQ(metrics["time/wait"], 2.5);
  EXPECT_EQ(metrics["time/train"], 1.0);
  EXPECT_EQ(metrics["time/weight_sync"], 0.25);
  EXPECT_EQ(metrics["tokens_per_second"], 1.0);
}

TEST_F(StepReportTest, StalenessIsTheBatchesAgeInSteps) {
  auto metrics = Metrics();
  EXPECT_EQ(metrics["staleness/mean"], 2.0);
  EXPECT_EQ(metrics["staleness/max"], 3.0);
  EXPECT_EQ(metrics["dropped_stale"], 2.0);
}

TEST_F(StepReportTest, WhatTrainingDidNotMeasureIsNull) {
  for (const std::string name : kMayBeUnmeasured) {
    trained_.values.clear();
    auto metrics = Metrics();
    ASSERT_EQ(metrics.count(name), 1u) << name;
    EXPECT_EQ(metrics[name], std::nullopt) << name;
    trained_.values = {{name, 0.0}};
    EXPECT_EQ(Metrics()[name], 0.0) << name;
  }
}

TEST_F(StepReportTest, WhatIsNotFiniteIsNullAndNamed) {
  const double infinity = std::numeric_limits<double>::infinity();
  trained_.values = {{"ratio/max", infinity}, {"loss", 0.5}, {"kl", -infinity}};
  trained_.values["ratio/mean"] = std::nan("");
  StepRecord record = Make();
  EXPECT_THAT(
      NullWhatIsNotFinite(&record),
      ElementsAre("kl is -inf", "ratio/max is inf", "ratio/mean is nan"));
  int found = 0;
  for (const MetricValue& metric : record.metrics) {
    if (trained_.values.count(metric.name) == 0) continue;
    const auto want =
        metric.name == "loss" ? std::optional<double>(0.5) : std::nullopt;
    EXPECT_EQ(metric.value, want) << metric.name;
    ++found;
  }
  EXPECT_EQ(found, 4);
  EXPECT_THAT(NullWhatIsNotFinite(&record), ElementsAre());
}

}  // namespace
}  // namespace temper
