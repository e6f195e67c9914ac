#include "tools/run/run_tasks.h"

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/environment_set.h"
#include "environments/search/index_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/task_file.h"
#include "tools/config/config.h"
#include "tools/run/run_setup.h"
#include "tools/run/run_setup_fixture.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
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
  UseTasks(*tasks);
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
  UseTasks(*tasks);
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
  DomainConfig* domain = config_.add_domain();
  domain->set_domain_name("sums");
  domain->set_domain_weight(2);
  tasks->front().set_domain("");
  UseTasks(*tasks);
  EXPECT_THAT(Refusal("seed=2"), HasSubstr("tasks are of no domain, and the"));
  for (Task& task : *tasks) {
    if (task.split() == "heldout") task.set_domain("other");
  }
  tasks->front().set_domain("sums");
  UseTasks(*tasks);
  DomainConfig* other = config_.add_domain();
  other->set_domain_name("other");
  other->set_domain_weight(1);
  EXPECT_THAT(Refusal("seed=2"), HasSubstr("domain other has the domain_weight "
                                           "1, and none of its tasks"));
  tasks->front().set_domain("other");
  UseTasks(*tasks);
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
}

TEST_F(RunTasksTest, MaxTokensThatLeaveNoRoomAreThatKeysFault) {
  const std::string refusal = Refusal("max_tokens=16384");
  EXPECT_THAT(refusal, HasSubstr("max_tokens is 16384, which leaves no"));
  EXPECT_THAT(refusal, HasSubstr("; set it below "));
}

// Of a tool's result as well, where the environment says how long one may be.
TEST_F(RunTasksTest, APageOfSearchHasToFitBehindThePrompt) {
  const std::string index = directory_ + "/corpus.index";
  const auto builder = *IndexBuilder::Create(index, {});
  ASSERT_TRUE(builder->Add("title", "text").ok());
  ASSERT_TRUE(builder->Finish().ok());
  std::vector<Task> tasks(2);
  for (Task& task : tasks) {
    const bool first = &task == &tasks[0];
    task.set_id(first ? "a" : "b");
    task.set_environment("search");
    task.set_split(first ? "train" : "heldout");
    task.set_payload_json(
        absl::StrCat(R"({"answer": "x", "corpus": ")", index, R"("})"));
    task.add_messages()->set_role("user");
    task.mutable_messages(0)->set_content("Who?");
  }
  UseTasks(tasks);
  ASSERT_TRUE(SetConfigValue("eval_tasks=1", &config_).ok());
  ASSERT_TRUE(SetConfigValue("max_tokens=2700", &config_).ok());
  EXPECT_THAT(Refusal("max_turns=2"),
              HasSubstr("with max_tokens 2700 and 1300 of a tool's result that "
                        "is above 4096, the model's max_position_embeddings"));
  EXPECT_TRUE(SetConfigValue("max_turns=1", &config_).ok());
  const auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  // The run's own tasks say which index they began with.
  const auto own = *ReadTaskFile(run->dir + "/tasks.jsonl");
  for (const Task& task : own) {
    EXPECT_THAT(task.payload_json(), HasSubstr("\"index\": \""));
  }
}

TEST_F(RunTasksTest, TooFewHeldOutTasksAreRefused) {
  const auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  UseTasks(*tasks);
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

TEST_F(RunTasksTest, TasksOfSeveralSourcesStandOneBehindTheOther) {
  const auto made = MakeTasks(config_, {});
  ASSERT_TRUE(made.ok());
  std::vector<Task> own;
  for (const Task& task : *made) {
    if (task.environment() != "math") continue;
    own.push_back(task);
    own.back().set_id("mine-" + task.id());
    own.back().set_environment("example");
    own.back().set_payload_json(R"({"answer": "5"})");
  }
  const std::string path = directory_ + "/own.jsonl";
  ASSERT_TRUE(WriteTaskFile(path, own).ok());
  ASSERT_TRUE(SetConfigValue("tasks=quickstart," + path, &config_).ok());
  const auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_THAT(run->config.environments(),
              ElementsAre("example", "interpreter", "math"));
  EXPECT_EQ((run->task_counts.at({"example", "heldout"})), 5);
  const auto kept = ReadTaskFile(run->dir + "/tasks.jsonl");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->size(), made->size() + own.size());
  EXPECT_EQ(kept->front().id(), made->front().id());
  EXPECT_EQ(kept->back().id(), own.back().id());
}

TEST_F(RunTasksTest, AnIdThatTwoSourcesHaveIsRefused) {
  const auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  UseTasks(*tasks);
  const std::string path = config_.tasks(0);
  EXPECT_THAT(Refusal(absl::StrCat("tasks=quickstart,", path)),
              HasSubstr(absl::StrCat("tasks: ", path, " has a task ",
                                     tasks->front().id(),
                                     ", and quickstart has one too")));
}

TEST_F(RunTasksTest, ATaskWithoutADomainIsOfTheOneOfItsEnvironmentsName) {
  auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  tasks->back().set_domain("sums");
  UseTasks(*tasks);
  for (const char* domain : {"domain=math:0.1", "domain=sums:0.2"}) {
    ASSERT_TRUE(SetConfigValue(domain, &config_).ok());
  }
  const auto made = MakeTasks(config_, {});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->back().domain(), "sums");
  for (size_t i = 0; i + 1 < made->size(); ++i) {
    const Task& task = (*made)[i];
    EXPECT_EQ(task.domain(), task.environment() == "math" ? "math" : "");
  }
}

}  // namespace
}  // namespace temper
