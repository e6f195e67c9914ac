#include "learner/intake/task_queue.h"

#include <algorithm>
#include <optional>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

class TaskQueueTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    for (int i = 0; i < 12; ++i) {
      Task& task = tasks_.emplace_back();
      task.set_id("t" + std::to_string(i));
      task.set_split(i < 10 ? "train" : "heldout");
    }
  }

  std::unique_ptr<TaskQueue> Queue(uint64_t seed) {
    auto queue = TaskQueue::Create(tasks_, {seed, 2}, ledger_.get());
    EXPECT_TRUE(queue.ok()) << queue.status();
    return *std::move(queue);
  }

  // Opens `count` groups and returns their tasks' ids, in order.
  std::vector<std::string> Issue(TaskQueue* queue, int count) {
    auto groups = queue->IssueTrain(count);
    EXPECT_TRUE(groups.ok()) << groups.status();
    EXPECT_TRUE(std::is_sorted(groups->begin(), groups->end()));
    std::vector<std::string> ids;
    for (const uint64_t group : *groups) {
      auto lease = *queue->Acquire(2);
      EXPECT_EQ(lease->group, group);
      EXPECT_THAT(lease->samples, testing::ElementsAre(0, 1));
      ids.push_back(lease->task.id());
    }
    return ids;
  }

  std::vector<Task> tasks_;
};

TEST_F(TaskQueueTest, EveryEpochHasEachTrainTaskOnceInItsOwnOrder) {
  auto queue = Queue(1);
  const auto first = Issue(queue.get(), 10);
  const auto second = Issue(queue.get(), 10);
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), 10u);
  EXPECT_TRUE(std::is_permutation(first.begin(), first.end(), second.begin()));
  EXPECT_NE(first, second);
  EXPECT_EQ(std::count(first.begin(), first.end(), "t10"), 0);
}

TEST_F(TaskQueueTest, TheOrderIsTheSeedsHoweverItIsAskedFor) {
  const auto whole = Issue(Queue(1).get(), 15);
  FreshRun();
  std::vector<std::string> pieces;
  auto queue = Queue(1);
  for (int count : {4, 1, 10}) {
    for (const auto& id : Issue(queue.get(), count)) pieces.push_back(id);
  }
  EXPECT_EQ(pieces, whole);
  FreshRun();
  EXPECT_NE(Issue(Queue(2).get(), 15), whole);
}

TEST_F(TaskQueueTest, ARestartGoesOnWithTheUnsettledThenInTheSameOrder) {
  const auto whole = Issue(Queue(1).get(), 6);
  FreshRun();
  ASSERT_TRUE(Queue(1)->IssueTrain(3).ok());
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  auto queue = Queue(1);
  EXPECT_FALSE((*queue->Acquire(2)).has_value());
  EXPECT_EQ(Issue(queue.get(), 6), whole);
  EXPECT_EQ(*ledger_->NextGroup(PURPOSE_TRAIN), 7u);
}

TEST_F(TaskQueueTest, EvaluationDoesNotMoveTheTrainOrderOrItsIds) {
  const auto whole = Issue(Queue(1).get(), 4);
  FreshRun();
  auto queue = Queue(1);
  EXPECT_THAT(queue->HeldOutTaskIds(2), testing::ElementsAre("t10", "t11"));
  auto eval = *queue->IssueEval(queue->HeldOutTaskIds(2), 3);
  EXPECT_THAT(eval, testing::ElementsAre(kEvalGroupBase, kEvalGroupBase + 1));
  EXPECT_EQ(Issue(queue.get(), 4), whole);
  EXPECT_FALSE((*queue->Acquire(2)).has_value());
  const QueueLease lease = **queue->Acquire(3);
  EXPECT_EQ(lease.purpose, PURPOSE_EVAL);
  EXPECT_EQ(lease.task.id(), "t10");
  EXPECT_FALSE(queue->IssueEval({"none"}, 1).ok());
  EXPECT_FALSE(queue->MakeReplacement(eval[0]).has_value());
}

TEST_F(TaskQueueTest, ALostLeaseIsGivenOutAgainWithoutWhatIsSettled) {
  auto queue = Queue(1);
  ASSERT_TRUE(queue->IssueTrain(2).ok());
  const QueueLease first = **queue->Acquire(2);
  const QueueLease other = **queue->Acquire(2);
  EXPECT_EQ(queue->LeaseOf(first.group, 0), first.lease);
  EXPECT_EQ(queue->LeaseOf(first.group, 1), first.lease);
  queue->Settle(first.group, 1);
  queue->Release(first.lease);
  queue->Release(first.lease);
  EXPECT_EQ(queue->LeaseOf(first.group, 0), std::nullopt);
  EXPECT_EQ(queue->LeaseOf(other.group, 0), other.lease);
  EXPECT_EQ(queue->LeaseOf(other.group, 1), other.lease);
  const QueueLease again = **queue->Acquire(2);
  EXPECT_EQ(again.group, first.group);
  EXPECT_THAT(again.samples, testing::ElementsAre(0));
  EXPECT_GT(again.lease, other.lease);
  EXPECT_FALSE((*queue->Acquire(2)).has_value()) << "all others are out";
  queue->Remove(again.group);
  EXPECT_EQ(queue->LeaseOf(again.group, 0), std::nullopt);
  EXPECT_EQ(queue->LeaseOf(other.group, 1), other.lease);
}

TEST_F(TaskQueueTest, AfterTwoReplacementsTheNextTaskTakesThePlace) {
  auto queue = Queue(1);
  const auto order = Issue(queue.get(), 1);
  uint64_t dropped = 1;
  for (int replacement = 1; replacement <= 3; ++replacement) {
    const GroupRecord record = *queue->MakeReplacement(dropped);
    EXPECT_EQ(record.task_id == order[0], replacement <= 2);
    EXPECT_EQ(record.position.has_value(), replacement == 3);
    EXPECT_EQ(record.group, dropped + 1);
    queue->OpenIssued(record);
    queue->Remove(dropped);
    dropped = record.group;
  }
}

TEST_F(TaskQueueTest, ATaskGivenUpIsReplacedByTheNextAtOnce) {
  auto queue = Queue(1);
  const auto order = Issue(queue.get(), 1);
  queue->GiveUpTask(1);
  const GroupRecord record = *queue->MakeReplacement(1);
  EXPECT_NE(record.task_id, order[0]);
  EXPECT_EQ(record.position, 1);
  queue->GiveUpTask(99);  // no such group
}

TEST_F(TaskQueueTest, DomainsHaveTheirSharesWithoutAndAfterARestart) {
  for (size_t i = 0; i < tasks_.size(); ++i) {
    tasks_[i].set_domain(i % 5 == 0 ? "rare" : "usual");
  }
  const TaskQueueOptions even = {1, 2, {{"rare", 3}, {"usual", 3}}};
  const auto queue = [&] {
    return *TaskQueue::Create(tasks_, even, ledger_.get());
  };
  const auto whole = Issue(queue().get(), 12);
  EXPECT_EQ(std::count(whole.begin(), whole.end(), "t0") +
                std::count(whole.begin(), whole.end(), "t5"),
            6);
  FreshRun();
  ASSERT_TRUE(queue()->IssueTrain(5).ok());
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  EXPECT_EQ(Issue(queue().get(), 12), whole);

  const auto refusal = [&](std::map<std::string, double> weights) {
    return std::string(
        TaskQueue::Create(tasks_, {1, 2, std::move(weights)}, ledger_.get())
            .status()
            .message());
  };
  EXPECT_THAT(refusal({{"rare", 1}}),
              testing::HasSubstr("of domain \"usual\", which has no weight"));
  EXPECT_THAT(refusal({{"rare", 1}, {"usual", 1}, {"x", 2}}),
              testing::HasSubstr("domain x has the weight 2 and no task"));
}

TEST_F(TaskQueueTest, TwoTasksOfOneIdOrNoSplitAreRefused) {
  tasks_[1].set_id("t0");
  EXPECT_TRUE(absl::IsInvalidArgument(
      TaskQueue::Create(tasks_, {1, 2}, ledger_.get()).status()));
  tasks_[1].set_id("t1");
  tasks_[1].set_split("test");
  EXPECT_TRUE(absl::IsInvalidArgument(
      TaskQueue::Create(tasks_, {1, 2}, ledger_.get()).status()));
  tasks_.clear();
  EXPECT_FALSE(Queue(1)->IssueTrain(1).ok());
}

}  // namespace
}  // namespace temper
