#include "rollout/task_refusals.h"

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace temper {
namespace {

// Validates as it is told, and counts.
class AskedEnvironment : public Environment {
 public:
  const EnvironmentFacts& facts() const override {
    static const EnvironmentFacts facts = {"asked", "for tests", true,
                                           ServedIn::kWorker, false};
    return facts;
  }
  absl::StatusOr<Observation> Validate(const Task&) const override {
    ++asked;
    if (waits_for.valid()) waits_for.wait();
    if (!answer.ok()) return answer;
    return Observation();
  }
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    return Validate(task);
  }
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>&) override {
    return std::vector<ToolResult>();
  }
  absl::StatusOr<Verdict> Grade(Outcome, const std::vector<Message>&) override {
    return Verdict();
  }

  absl::Status answer;
  std::shared_future<void> waits_for;
  mutable std::atomic<int> asked = 0;
};

Task Named(const std::string& id) {
  Task task;
  task.set_id(id);
  task.set_environment("asked");
  return task;
}

TEST(TaskRefusalsTest, ATaskIsAskedOfOnceWhateverItsAnswer) {
  TaskRefusals refusals;
  AskedEnvironment environment;
  EXPECT_TRUE(refusals.Check(Named("good"), environment).ok());
  EXPECT_TRUE(refusals.Check(Named("good"), environment).ok());
  EXPECT_EQ(environment.asked, 1);
  environment.answer = absl::InvalidArgumentError("no such key");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(refusals.Check(Named("bad"), environment), environment.answer);
  }
  EXPECT_EQ(environment.asked, 2);
}

TEST(TaskRefusalsTest, AnErrorOfTheMomentIsForgotten) {
  TaskRefusals refusals;
  AskedEnvironment environment;
  environment.answer = absl::UnavailableError("the host is away");
  EXPECT_EQ(refusals.Check(Named("t"), environment), environment.answer);
  environment.answer = absl::OkStatus();
  EXPECT_TRUE(refusals.Check(Named("t"), environment).ok());
  EXPECT_EQ(environment.asked, 2);
}

TEST(TaskRefusalsTest, WhoComesMeanwhileWaitsForTheOneAnswer) {
  for (const absl::Status& answer :
       {absl::InvalidArgumentError("no such key"),
        absl::UnavailableError("the host is away")}) {
    TaskRefusals refusals;
    AskedEnvironment environment;
    environment.answer = answer;
    std::promise<void> release;
    environment.waits_for = release.get_future().share();
    std::vector<std::future<absl::Status>> callers;
    for (int i = 0; i < 4; ++i) {
      callers.push_back(std::async(std::launch::async, [&] {
        return refusals.Check(Named("t"), environment);
      }));
    }
    // All four are under way, one of them asks.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_EQ(environment.asked, 1);
    release.set_value();
    for (auto& caller : callers) EXPECT_EQ(caller.get(), answer);
    EXPECT_EQ(environment.asked, 1);
  }
}

}  // namespace
}  // namespace temper
