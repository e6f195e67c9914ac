// Episodes over a scripted engine and a fake environment, for tests of who
// plays them.

#ifndef ROLLOUT_AGENT_LOOP_FIXTURE_H_
#define ROLLOUT_AGENT_LOOP_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "kernels/model/chat/golden.h"
#include "rollout/agent_loop.h"
#include "rollout/episode_runner.h"
#include "rollout/sampling_fixture.h"
#include "rollout/scripted_engine.h"

namespace temper {

inline constexpr char kAnswer[] = "easy</think>42<｜end▁of▁sentence｜>";
inline constexpr char kCall[] =
    "let me see</think>\n\n<｜DSML｜function_calls>\n"
    "<｜DSML｜invoke name=\"add\">\n"
    "<｜DSML｜parameter name=\"a\" string=\"false\">1</｜DSML｜parameter>\n"
    "</｜DSML｜invoke>\n</｜DSML｜function_calls><｜end▁of▁sentence｜>";
inline constexpr char kMalformed[] = "no end of thought<｜end▁of▁sentence｜>";

// Steps that are answered later, by whoever takes them.
class OpenSteps {
 public:
  void Add(std::function<void()> answer) {
    MutexLock lock(&mutex_);
    answers_.push_back(std::move(answer));
  }
  std::vector<std::function<void()>> Take() {
    MutexLock lock(&mutex_);
    return std::exchange(answers_, {});
  }

 private:
  Mutex mutex_;
  std::vector<std::function<void()>> answers_ ABSL_GUARDED_BY(mutex_);
};

// What the fake environment is to do; the task's id picks it.
struct Behaviour {
  absl::Status reset, step, grade;
  std::shared_future<void> step_waits_for;
  OpenSteps* open_steps = nullptr;  // null: Steps are answered at once
  bool verified = true;
  std::optional<double> score;
  std::string last_role = "user";  // of the prompt's last message
  std::string assistant;           // what one wrote before it; empty: nothing
};

// The threads on which environments ended.
class Ends {
 public:
  void Add() {
    MutexLock lock(&mutex_);
    threads_.push_back(std::this_thread::get_id());
  }
  std::vector<std::thread::id> threads() {
    MutexLock lock(&mutex_);
    return threads_;
  }

 private:
  Mutex mutex_;
  std::vector<std::thread::id> threads_ ABSL_GUARDED_BY(mutex_);
};

class FakeEnvironment : public Environment {
 public:
  FakeEnvironment(const std::map<std::string, Behaviour>* behaviours,
                  Ends* ends)
      : behaviours_(behaviours), ends_(ends) {}
  ~FakeEnvironment() override { ends_->Add(); }

  const EnvironmentFacts& facts() const override {
    static const EnvironmentFacts facts = {"fake", "for tests", true,
                                           ServedIn::kWorker, false};
    static const EnvironmentFacts open = [] {
      EnvironmentFacts open = facts;
      open.open_steps = true;
      return open;
    }();
    return behaviour_.open_steps == nullptr ? facts : open;
  }
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    behaviour_ = behaviours_->at(task.id());
    if (!behaviour_.reset.ok()) return behaviour_.reset;
    return Validate(task);
  }
  absl::StatusOr<Observation> Validate(const Task& task) const override {
    Observation observation;
    const Behaviour& behaviour = behaviours_->at(task.id());
    Message message;
    message.set_role("assistant");
    message.set_content(behaviour.assistant);
    if (!behaviour.assistant.empty()) observation.messages.push_back(message);
    message.set_role(behaviour.last_role);
    message.set_content("What is it?");
    observation.messages.push_back(message);
    Tool tool;
    tool.set_name("add");
    tool.set_function_json("{\"name\": \"add\", \"parameters\": {}}");
    observation.tools.push_back(tool);
    return observation;
  }
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    if (behaviour_.step_waits_for.valid()) behaviour_.step_waits_for.wait();
    if (!behaviour_.step.ok()) return behaviour_.step;
    std::vector<ToolResult> results(calls.size());
    for (size_t i = 0; i < calls.size(); ++i) {
      results[i].set_content(absl::StrCat("got ", calls[i].arguments_json()));
      results[i].set_outcome(OUTCOME_OK);
    }
    return results;
  }
  void StartStep(const std::vector<ToolCall>& calls, StepDone done) override {
    if (behaviour_.open_steps == nullptr) return done(Step(calls));
    behaviour_.open_steps->Add(
        [this, calls, done = std::move(done)] { done(Step(calls)); });
  }
  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    if (!behaviour_.grade.ok()) return behaviour_.grade;
    Verdict verdict;
    verdict.set_outcome(outcome);
    verdict.set_verified(behaviour_.verified);
    verdict.set_correct(transcript.back().content() == "42");
    if (behaviour_.score.has_value()) {
      verdict.add_scores()->set_name("x");
      verdict.mutable_scores(0)->set_value(*behaviour_.score);
    }
    return verdict;
  }

 private:
  const std::map<std::string, Behaviour>* const behaviours_;
  Ends* const ends_;
  Behaviour behaviour_;
};

class AgentLoopTest : public ::testing::Test {
 protected:
  AgentLoopTest()
      : tokenizer_(GoldenTokenizer()),
        chat_template_(*ChatTemplate::Create(tokenizer_.get())),
        chat_parser_(*ChatParser::Create(tokenizer_.get())),
        reward_(*Reward::Create(FixtureRewards())),
        engine_(tokenizer_.get()),
        jobs_(std::make_unique<JobPool>(4, 64)) {
    behaviours_["plain"];
  }

  EpisodeServices Services() {
    EpisodeServices services;
    services.engine = &engine_;
    services.tokenizer = tokenizer_.get();
    services.chat_template = chat_template_.get();
    services.chat_parser = chat_parser_.get();
    services.reward = reward_.get();
    services.jobs = jobs_.get();
    services.new_environment = [this](const std::string&) {
      return std::make_unique<FakeEnvironment>(&behaviours_, &ends_);
    };
    services.worker = "w";
    return services;
  }

  EpisodeRunner NewRunner() { return EpisodeRunner(Services(), 64); }

  EpisodeSpec Spec(uint32_t sample, const std::string& task = "plain") {
    EpisodeSpec spec;
    spec.key.set_run("r");
    spec.key.set_group(3);
    spec.key.set_sample(sample);
    spec.task.set_id(task);
    spec.task.set_environment("fake");
    spec.sampling = FixtureSampling(/*max_tokens=*/1000, /*max_turns=*/3);
    return spec;
  }

  std::map<uint32_t, Trajectory> Finish(EpisodeRunner* runner) {
    std::map<uint32_t, Trajectory> done;
    while (runner->running() > 0) {
      auto ended = runner->Advance(1'000'000);
      EXPECT_TRUE(ended.ok()) << ended.status();
      for (Trajectory& trajectory : *ended) {
        const uint32_t sample = trajectory.key().sample();
        done[sample] = std::move(trajectory);
      }
    }
    EXPECT_EQ(engine_.open(), 0u) << "every sequence is closed";
    return done;
  }

  Trajectory RunOne(const EpisodeSpec& spec) {
    EpisodeRunner runner = NewRunner();
    EXPECT_TRUE(runner.Add(spec).ok());
    return Finish(&runner)[spec.key.sample()];
  }

  std::vector<int32_t> Encode(const std::string& text) {
    return *tokenizer_->Encode(text, SpecialMatching::kOn);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<ChatParser> chat_parser_;
  std::unique_ptr<Reward> reward_;
  std::map<std::string, Behaviour> behaviours_;
  Ends ends_;
  ScriptedEngine engine_;
  std::unique_ptr<JobPool> jobs_;
};

}  // namespace temper

#endif  // ROLLOUT_AGENT_LOOP_FIXTURE_H_
