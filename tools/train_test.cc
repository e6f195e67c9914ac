#include "tools/train.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/model/config.h"

namespace temper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

TrainOptions Options() {
  TrainOptions options;
  options.run.dir = "runs/trial";
  const auto json = ReadFile("tools/configs/quickstart_model.json", 1 << 20);
  EXPECT_TRUE(json.ok()) << json.status();
  const auto model = ParseModelConfig(*json);
  EXPECT_TRUE(model.ok()) << model.status();
  options.run.model = *model;
  options.run.config.set_workers(2);
  options.run.config.set_steps(5);
  options.run.config.set_numerics("fp32");
  options.run.config.add_environments("math");
  options.run.config.mutable_objective()->set_keep_sampling_mask(true);
  return options;
}

std::vector<std::string> Names(const std::vector<ChildSpec>& children) {
  std::vector<std::string> names;
  for (const ChildSpec& child : children) names.push_back(child.name);
  return names;
}

TEST(TrainTest, HostIsStartedOnlyForEnvironmentsThatNeedOne) {
  TrainOptions options = Options();
  EXPECT_THAT(Names(PlanChildren(options)),
              ElementsAre("learner", "worker-0", "worker-1"));
  options.run.config.add_environments("interpreter");
  const auto children = PlanChildren(options);
  EXPECT_THAT(Names(children),
              ElementsAre("env-host", "learner", "worker-0", "worker-1"));
  EXPECT_THAT(children[2].args, Contains("--env-host-file"));
}

TEST(TrainTest, LearnerIsEssentialStopsFirstAndIsNeverRestarted) {
  TrainOptions options = Options();
  options.run.config.add_environments("interpreter");
  for (const ChildSpec& child : PlanChildren(options)) {
    const bool learner = child.name == "learner";
    EXPECT_EQ(child.essential, learner);
    EXPECT_EQ(child.restarts_max, learner ? 0 : options.restarts_max);
    EXPECT_EQ(child.stop_order == 0, learner);
  }
}

TEST(TrainTest, OnlyAResumedLearnerIsToldToResume) {
  TrainOptions options = Options();
  EXPECT_THAT(PlanChildren(options)[0].args, Not(Contains("--resume")));
  options.resume = true;
  EXPECT_THAT(PlanChildren(options)[0].args, Contains("--resume"));
}

TEST(TrainTest, PlanNamesWhatIsNotTrainedAndWhatIsKnownToBreak) {
  TrainOptions options = Options();
  EXPECT_THAT(DescribePlan(options), Not(Contains(Pair("MTP", ::testing::_))));
  options.run.model.num_nextn_predict_layers = 1;
  options.run.config.mutable_objective()->set_keep_sampling_mask(false);
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("MTP", HasSubstr("not trained"))));
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("warning", HasSubstr("keep_sampling_mask"))));
}

}  // namespace
}  // namespace temper
