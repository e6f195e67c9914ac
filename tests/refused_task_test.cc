// Tasks that only the host of their environment can refuse: a learner's link, a
// worker and an environment host on their real wires.

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/environment_host.h"
#include "environments/remote_environment.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/mutex.h"
#include "kernels/find_backend.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/test_model.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/rollout_link.h"
#include "proto/wire/task_file.h"
#include "rollout/sampling_fixture.h"
#include "rollout/worker.h"

namespace temper {
namespace {

using testing::EndsWith;
using testing::StartsWith;

constexpr int64_t kPatienceMs = 60'000;
constexpr char kBroken[] = "broken";  // the task whose Reset fails at first

// How often each call was made, by "call task".
class Calls {
 public:
  int Add(const std::string& call) {
    MutexLock lock(&mutex_);
    return ++counts_[call];
  }
  int count(const std::string& call) {
    MutexLock lock(&mutex_);
    return counts_[call];
  }

 private:
  Mutex mutex_;
  std::map<std::string, int> counts_ ABSL_GUARDED_BY(mutex_);
};

// A remote episode whose calls are counted.
class CountedEnvironment : public Environment {
 public:
  CountedEnvironment(std::unique_ptr<Environment> remote, Calls* calls)
      : remote_(std::move(remote)), calls_(calls) {}
  const EnvironmentFacts& facts() const override { return remote_->facts(); }
  absl::StatusOr<Observation> Validate(const Task& task) const override {
    calls_->Add("Validate " + task.id());
    return remote_->Validate(task);
  }
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    const int times = calls_->Add("Reset " + task.id());
    if (task.id() == kBroken && times <= 2) {
      return absl::InternalError("a database is away");
    }
    return remote_->Reset(task, seed);
  }
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    return remote_->Step(calls);
  }
  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    return remote_->Grade(outcome, transcript);
  }

 private:
  const std::unique_ptr<Environment> remote_;
  Calls* const calls_;
};

Task MathTask(const std::string& id, const std::string& payload) {
  Task task;
  task.set_id(id);
  task.set_environment("math");
  task.set_split("train");
  Message* const user = task.add_messages();
  user->set_role("user");
  user->set_content("a question of some length");
  task.set_payload_json(payload);
  return task;
}

class RefusedTaskTest : public testing::Test {
 protected:
  RefusedTaskTest() {
    SetFlushDenormals();
    directory_ = absl::StrCat(testing::TempDir(), "/run");
    BpeTrainerOptions tokens;
    tokens.vocab_size = 264;
    model_.vocab_size = tokens.vocab_size;
    EXPECT_TRUE(MakeDirectories(directory_ + "/model").ok());
    EXPECT_TRUE(WriteFileDurably(directory_ + "/model/config.json",
                                 ModelConfigToJson(model_))
                    .ok());
    EXPECT_TRUE(WriteFileDurably(directory_ + "/model/tokenizer.json",
                                 TokenizerJson(*TrainBpe({}, tokens)))
                    .ok());
    config_.set_name("trial");
    config_.mutable_objective()->set_group_size(2);
    config_.mutable_objective()->set_prompts_per_step(4);
    config_.mutable_objective()->set_keep_sampling_mask(true);
    config_.mutable_objective()->set_keep_routing(true);
    *config_.mutable_sampling() = FixtureSampling(/*max_tokens=*/5);
    *config_.mutable_rewards() = FixtureRewards();
    backend_ = *FindBackend({.name = "scalar"});
  }

  void OpenLink(const std::vector<Task>& tasks) {
    ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", tasks).ok());
    RunInfo info;
    info.name = "trial";
    records_ = *RunRecords::Start(directory_, info, SystemClock());
    auto link = RolloutLink::Open(directory_, config_, model_, records_.get());
    ASSERT_TRUE(link.ok()) << link.status();
    link_ = *std::move(link);
    LearnerCounters counters;
    counters.weight_version = 1;
    const auto weights = RandomModel(backend_.get(), model_, /*seed=*/1);
    ASSERT_TRUE(link_->Publish(counters, *weights).ok());
    ASSERT_TRUE(link_->Serve(Device::kCpu).ok());
  }

  // Runs a worker until `count` whole groups were taken. The host listens on
  // any free port, and nothing runs in this process but its client.
  void TrainOn(int count) {
    const auto host = *EnvironmentHostServer::Start({}, {}, SystemClock());
    EnvironmentClient client([&host] { return host->address(); }, {});
    WorkerOptions options;
    std::string address = *ReadFile(directory_ + "/learner.address", 100);
    address.pop_back();  // the line's end
    options.learner.address = address;
    options.learner.worker = "w";
    options.learner.capacity_samples = 4;
    options.engine.pages = 64;
    options.new_environment = [&](const std::string& name)
        -> absl::StatusOr<std::unique_ptr<Environment>> {
      auto remote = client.NewEnvironment(name);
      if (!remote.ok()) return remote.status();
      return std::make_unique<CountedEnvironment>(*std::move(remote), &calls_);
    };
    std::atomic<bool> stop = false;
    std::thread worker([&] {
      SetFlushDenormals();
      const auto backend = *FindBackend({.name = "scalar"});
      const absl::Status status = RunWorker(options, backend.get(), &stop);
      EXPECT_TRUE(status.ok()) << status;
    });
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::milliseconds(kPatienceMs);
    bool taken = false;
    while (!taken && std::chrono::steady_clock::now() < end) {
      const int64_t seen = link_->buffer()->activity();
      const auto batch = link_->buffer()->Take(1, count);
      ASSERT_TRUE(batch.ok()) << batch.status();
      taken = batch->has_value();
      if (!taken) (void)link_->buffer()->WaitForChange(seen, 100'000);
    }
    stop = true;
    worker.join();
    ASSERT_TRUE(taken) << "no batch came together";
  }

  std::vector<SqlRow> Query(const char* sql) {
    auto transaction = *records_->db()->sqlite()->Begin();
    return *transaction->Query(sql);
  }

  std::string directory_;
  ModelConfig model_ = TinyConfig();
  RunConfig config_;
  Calls calls_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<RunRecords> records_;
  std::unique_ptr<RolloutLink> link_;
};

TEST_F(RefusedTaskTest, IsToldOfOnceWithTheHostsWordsAndNotTriedAgain) {
  OpenLink({MathTask("a", R"({"answer": "1"})"),
            MathTask("bad", R"({"answre": "2"})"),
            MathTask("c", R"({"answer": "3"})"),
            MathTask(kBroken, R"({"answer": "4"})")});
  ASSERT_TRUE(link_->queue()->IssueTrain(4).ok());
  TrainOn(4);  // with one in place of `bad`'s

  const auto failures = Query("SELECT task_id, reason FROM task_failure");
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0][0].AsString(), "bad");
  const std::string reason = failures[0][1].AsString();
  EXPECT_THAT(reason,
              StartsWith("its environment refuses it: environment host 127."));
  EXPECT_THAT(reason, EndsWith("task bad: payload_json has the key \"answre\"; "
                               "its keys are answer, tools"));

  EXPECT_EQ(calls_.count("Validate bad"), 1);
  EXPECT_EQ(calls_.count("Reset bad"), 0) << "no episode opens";
  const auto again = Query(
      "SELECT count(*) FROM episode JOIN grp USING(grp) WHERE grp.task_id = "
      "'bad' GROUP BY grp, sample ORDER BY 1 DESC");
  ASSERT_FALSE(again.empty());
  EXPECT_EQ(again[0][0].AsInt(), 1) << "a sample of it was tried again";

  // What an environment cannot do just now is tried again.
  EXPECT_EQ(calls_.count(absl::StrCat("Validate ", kBroken)), 1);
  EXPECT_GE(calls_.count(absl::StrCat("Reset ", kBroken)), 4);
  EXPECT_TRUE(records_->ledger()->Audit().ok());
}

}  // namespace
}  // namespace temper
