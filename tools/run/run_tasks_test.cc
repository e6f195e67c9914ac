#include "tools/run/run_tasks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "environments/environment_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/task_file.h"
#include "tools/config/config.h"
#include "tools/run/run_setup.h"
#include "tools/run/run_setup_fixture.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

using RunTasksTest = RunSetupTest;

TEST_F(RunTasksTest, HeldOutTasksAreTheSameForEverySeed) {
  const auto first = MakeTasks(config_, {});
  ASSERT_TRUE(first.ok());
  config_.set_seed(99);
  ASSERT_TRUE(ResolveConfig(&config_).ok());
  const auto second = MakeTasks(config_, {});
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(first->back().SerializeAsString(),
            second->back().SerializeAsString());
  EXPECT_NE(first->front().SerializeAsString(),
            second->front().SerializeAsString());
}

TEST_F(RunTasksTest, GeneratorMakesTasksOfTheNamedEnvironmentsAlone) {
  ASSERT_TRUE(SetConfigValue("environments=math", &config_).ok());
  const auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->task_counts.size(), 2u);
  EXPECT_EQ((run->task_counts.at({"math", "train"})), 3 * 4);
  EXPECT_EQ((run->task_counts.at({"math", "heldout"})), 5);
}

TEST_F(RunTasksTest, TasksOfAFileMayBeOfTheNamedEnvironmentsOnly) {
  const auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", *tasks).ok());
  config_.set_tasks(directory_ + "/tasks.jsonl");
  EXPECT_THAT(
      Refusal("environments=math"),
      HasSubstr("tasks use environment interpreter, which environments "
                "does not name; add it, or give a tasks.jsonl without"));
}

TEST_F(RunTasksTest, ADomainIsNamedOnBothSidesOrNowhere) {
  auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  tasks->front().set_domain("sums");
  tasks->back().set_domain("smus");
  ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", *tasks).ok());
  config_.set_tasks(directory_ + "/tasks.jsonl");
  EXPECT_THAT(Refusal("domain=sums:0.1"),
              HasSubstr("tasks are of domain smus, which no domain { }"));
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
  config_.set_name("second");
  ASSERT_TRUE(SetConfigValue("domain=sums:0.1", &config_).ok());
  ASSERT_TRUE(SetConfigValue("domain=smus:0.2", &config_).ok());
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
}

TEST_F(RunTasksTest, AWeightIsForEachDomainThatIsTrainedOn) {
  auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  for (Task& task : *tasks) task.set_domain("sums");
  config_.set_tasks(directory_ + "/tasks.jsonl");
  DomainConfig* domain = config_.add_domain();
  domain->set_domain_name("sums");
  domain->set_domain_weight(2);
  tasks->front().set_domain("");
  ASSERT_TRUE(WriteTaskFile(config_.tasks(), *tasks).ok());
  EXPECT_THAT(Refusal("seed=2"), HasSubstr("tasks are of no domain, and the"));
  for (Task& task : *tasks) {
    if (task.split() == "heldout") task.set_domain("other");
  }
  tasks->front().set_domain("sums");
  ASSERT_TRUE(WriteTaskFile(config_.tasks(), *tasks).ok());
  DomainConfig* other = config_.add_domain();
  other->set_domain_name("other");
  other->set_domain_weight(1);
  EXPECT_THAT(Refusal("seed=2"), HasSubstr("domain other has the domain_weight "
                                           "1, and none of its tasks"));
  tasks->front().set_domain("other");
  ASSERT_TRUE(WriteTaskFile(config_.tasks(), *tasks).ok());
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
}

TEST_F(RunTasksTest, MaxTokensThatLeaveNoRoomAreThatKeysFault) {
  const std::string refusal = Refusal("max_tokens=16384");
  EXPECT_THAT(refusal, HasSubstr("max_tokens is 16384, which leaves no"));
  EXPECT_THAT(refusal, HasSubstr("; set it below "));
}

TEST_F(RunTasksTest, TooFewHeldOutTasksAreRefused) {
  const auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", *tasks).ok());
  config_.set_tasks(directory_ + "/tasks.jsonl");
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
  config_.set_name("second");
  ASSERT_TRUE(SetConfigValue("eval_tasks=6", &config_).ok());
  EXPECT_THAT(std::string(PrepareRun(config_, "", 0).status().message()),
              HasSubstr("eval_tasks 6 exceeds the 5 held-out tasks"));
}

TEST_F(RunTasksTest, HeldOutTasksAloneAreEnoughToEvaluateNotToTrain) {
  auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  std::vector<Task> held_out;
  for (const Task& task : *tasks) {
    if (task.split() == "heldout") held_out.push_back(task);
  }
  const auto environments = EnvironmentSet::Open("none.jsonl");
  ASSERT_TRUE(environments.ok()) << environments.status();
  EXPECT_EQ(CheckTasks(held_out, **environments, &config_), absl::OkStatus());
  ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", held_out).ok());
  EXPECT_THAT(Refusal(absl::StrCat("tasks=", directory_, "/tasks.jsonl")),
              HasSubstr("no task of split \"train\""));
}

}  // namespace
}  // namespace temper
