#include "rollout/agent_loop.h"

#include <algorithm>
#include <functional>
#include <future>
#include <limits>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/wire/episode_limit.h"
#include "rollout/agent_loop_fixture.h"
#include "rollout/episode_runner.h"

namespace temper {
namespace {

int64_t SampledIn(const Branch& branch) {
  return static_cast<int64_t>(branch.logprobs().size() / 4);
}

TEST_F(AgentLoopTest, AnswerIsGradedAndRewarded) {
  engine_.Play(0, {kAnswer});
  const Trajectory t = RunOne(Spec(0));
  EXPECT_EQ(t.outcome(), OUTCOME_OK);
  EXPECT_TRUE(t.has_reward());
  EXPECT_EQ(t.reward(), 1);
  EXPECT_TRUE(t.verdict().correct());
  ASSERT_EQ(t.branches_size(), 1);
  EXPECT_EQ(SampledIn(t.branches(0)),
            static_cast<int64_t>(Encode(kAnswer).size()));
  EXPECT_EQ(t.turns(t.turns_size() - 1).text(), kAnswer);
}

TEST_F(AgentLoopTest, WithoutThinkingTheAnswersLanguageIsPaid) {
  engine_.Play(0, {"forty two<｜end▁of▁sentence｜>"});
  EpisodeSpec spec = Spec(0);
  spec.sampling.set_thinking(false);
  const Trajectory t = RunOne(spec);
  ASSERT_EQ(t.outcome(), OUTCOME_OK);
  EXPECT_EQ(t.reward_parts().rbegin()->name(), "language");
  EXPECT_EQ(t.reward_parts().rbegin()->value(), 1);
}

TEST_F(AgentLoopTest, ThePromptsAssistantIsNotPaidFor) {
  behaviours_["shown"].assistant = "<think>сорок</think>";
  engine_.Play(0, {"forty two<｜end▁of▁sentence｜>"});
  EpisodeSpec spec = Spec(0, "shown");
  spec.sampling.set_thinking(false);
  const Trajectory t = RunOne(spec);
  ASSERT_EQ(t.outcome(), OUTCOME_OK);
  for (const RewardPart& part : t.reward_parts()) {
    EXPECT_EQ(part.value(), part.name() == "rule" ? 0 : 1) << part.name();
  }
}

TEST_F(AgentLoopTest, ToolResultsAreAppendedAsUnsampledTokens) {
  engine_.Play(0, {kCall, kAnswer});
  const Trajectory t = RunOne(Spec(0));
  EXPECT_EQ(t.outcome(), OUTCOME_OK);
  ASSERT_EQ(t.tool_calls_size(), 1);
  EXPECT_EQ(t.tool_calls(0).call().name(), "add");
  const std::string result = t.tool_calls(0).result().content();
  EXPECT_EQ(result.rfind("got {", 0), 0u) << result;
  EXPECT_EQ(t.turns(t.tool_calls(0).turn()).role(), "assistant");

  const std::vector<int32_t> call = Encode(kCall);
  const std::vector<int32_t> answer = Encode(kAnswer);
  const std::vector<int32_t> between =
      *chat_template_->ToolResults({result}, ChatMode::kThinking);
  const Branch& branch = t.branches(0);
  const auto* tokens = reinterpret_cast<const int32_t*>(branch.tokens().data());
  const size_t size = branch.tokens().size() / 4;
  std::vector<int32_t> expected = call;
  expected.insert(expected.end(), between.begin(), between.end());
  expected.insert(expected.end(), answer.begin(), answer.end());
  ASSERT_GE(size, expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                         tokens + size - expected.size()));
  EXPECT_EQ(SampledIn(branch),
            static_cast<int64_t>(call.size() + answer.size()));
  EXPECT_EQ(branch.routes().size(), size - 1);
}

TEST_F(AgentLoopTest, OpenStepsHoldNoThread) {
  jobs_ = std::make_unique<JobPool>(1, 64);
  OpenSteps steps;
  behaviours_["open"].open_steps = &steps;
  EpisodeRunner runner = NewRunner();
  for (uint32_t sample = 0; sample < 60; ++sample) {
    engine_.Play(sample, {kCall, kAnswer});
    ASSERT_TRUE(runner.Add(Spec(sample, "open")).ok());
  }
  while (runner.in_open_step() < 60)
    ASSERT_TRUE(runner.Advance(1'000'000).ok());
  std::vector<std::function<void()>> answers;
  while (answers.size() < 60) {
    for (auto& answer : steps.Take()) answers.push_back(std::move(answer));
  }
  std::thread([&answers] {
    for (auto& answer : answers) std::exchange(answer, nullptr)();
  }).join();
  for (const auto& [sample, t] : Finish(&runner)) {
    EXPECT_EQ(t.outcome(), OUTCOME_OK) << sample;
    EXPECT_EQ(t.tool_calls_size(), 1);
  }
  EXPECT_EQ(runner.in_open_step(), 0);
}

// Those of a host hold a place there, and are counted as they always were.
TEST_F(AgentLoopTest, AStepThatHoldsAThreadIsNoOpenOne) {
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  OpenSteps steps;
  behaviours_["open"].open_steps = &steps;
  EpisodeRunner runner = NewRunner();
  for (const uint32_t sample : {0u, 1u, 2u}) {
    engine_.Play(sample, {kCall, kAnswer});
    ASSERT_TRUE(runner.Add(Spec(sample, sample < 2 ? "slow" : "open")).ok());
  }
  const auto in_step = [&runner] {
    int episodes = 0;
    for (const EnvironmentWait& wait : runner.EnvironmentWaits()) {
      if (wait.call == AgentLoop::Call::kStep) episodes += wait.episodes;
    }
    return episodes;
  };
  while (in_step() < 3) ASSERT_TRUE(runner.Advance(1'000'000).ok());
  EXPECT_EQ(runner.in_open_step(), 1);
  release.set_value();
  std::vector<std::function<void()>> answers;
  while (answers.empty()) answers = steps.Take();
  answers[0]();
  Finish(&runner);
  EXPECT_EQ(runner.in_open_step(), 0);
}

TEST_F(AgentLoopTest, AnEpisodeCancelledInAnOpenStepEndsInThePool) {
  jobs_ = std::make_unique<JobPool>(1, 64);
  OpenSteps steps;
  behaviours_["open"].open_steps = &steps;
  engine_.Play(0, {kCall});
  EpisodeRunner runner = NewRunner();
  ASSERT_TRUE(runner.Add(Spec(0, "open")).ok());
  while (runner.in_open_step() < 1) ASSERT_TRUE(runner.Advance(1'000'000).ok());
  std::vector<std::function<void()>> answers;
  while (answers.empty()) answers = steps.Take();
  EXPECT_EQ(runner.CancelAll("enough").size(), 1u);
  std::thread::id answerer;
  std::thread([&] {
    answerer = std::this_thread::get_id();
    std::exchange(answers[0], nullptr)();
  }).join();
  jobs_.reset();
  ASSERT_EQ(ends_.threads().size(), 1u);
  EXPECT_NE(ends_.threads()[0], answerer);
  EXPECT_NE(ends_.threads()[0], std::this_thread::get_id());
}

TEST_F(AgentLoopTest, EveryCallOfTheEnvironmentIsTimed) {
  engine_.Play(0, {kCall, kAnswer});
  const Trajectory t = RunOne(Spec(0));
  ASSERT_EQ(t.environment_calls_size(), 3);
  uint64_t sum_us = 0;
  for (const EnvironmentCall& call : t.environment_calls()) {
    sum_us += call.run_us();
  }
  EXPECT_EQ(t.environment_calls(0).kind(), ENVIRONMENT_CALL_RESET);
  EXPECT_EQ(t.environment_calls(1).kind(), ENVIRONMENT_CALL_STEP);
  EXPECT_EQ(t.environment_calls(2).kind(), ENVIRONMENT_CALL_GRADE);
  EXPECT_EQ(t.environment_us(), sum_us);
  // A call that failed took its time too.
  behaviours_["broken"].step = absl::UnavailableError("gone");
  engine_.Play(1, {kCall});
  const Trajectory failed = RunOne(Spec(1, "broken"));
  EXPECT_EQ(failed.outcome(), OUTCOME_SANDBOX_ERROR);
  EXPECT_EQ(failed.environment_calls_size(), 2);
}

TEST_F(AgentLoopTest, NothingIsSampledAfterAPromptThatEndsWithTheAssistant) {
  behaviours_["system"].last_role = "system";
  EpisodeSpec spec = Spec(0);
  spec.task.set_id("system");
  const Trajectory t = RunOne(spec);
  EXPECT_EQ(t.outcome(), OUTCOME_ENVIRONMENT_ERROR);
  EXPECT_NE(t.error().find("message 0 (role 'system') is the last"),
            std::string::npos)
      << t.error();
  EXPECT_TRUE(t.branches().empty());
}

TEST_F(AgentLoopTest, MalformedMessageIsTheModelsErrorAndGraded) {
  engine_.Play(0, {kMalformed});
  const Trajectory t = RunOne(Spec(0));
  EXPECT_EQ(t.outcome(), OUTCOME_MODEL_ERROR);
  EXPECT_TRUE(t.has_reward());
  EXPECT_EQ(t.reward(), 0);
}

TEST_F(AgentLoopTest, AToolsNameAboveTheLimitIsTheModelsError) {
  std::string call = kCall;
  call.replace(call.find("add"), 3, std::string(kNameBytesMax + 1, 'a'));
  engine_.Play(0, {call});
  EpisodeSpec spec = Spec(0);
  spec.sampling.set_max_tokens(5000);
  const Trajectory t = RunOne(spec);
  EXPECT_EQ(t.outcome(), OUTCOME_MODEL_ERROR);
  EXPECT_NE(t.error().find("1025 bytes; at most 1024"), std::string::npos)
      << t.error();
  EXPECT_EQ(t.tool_calls_size(), 0);
}

TEST_F(AgentLoopTest, TokenLimitTruncates) {
  engine_.Play(0, {kAnswer});
  EpisodeSpec spec = Spec(0);
  spec.sampling.set_max_tokens(2);
  const Trajectory t = RunOne(spec);
  EXPECT_EQ(t.outcome(), OUTCOME_TRUNCATED);
  EXPECT_TRUE(t.has_reward());
  EXPECT_EQ(SampledIn(t.branches(0)), 2);
}

TEST_F(AgentLoopTest, TokenLimitCountsAllTurns) {
  engine_.Play(0, {kCall, kAnswer});
  EpisodeSpec spec = Spec(0);
  const uint32_t call = static_cast<uint32_t>(Encode(kCall).size());
  spec.sampling.set_max_tokens(call + 1);
  const Trajectory t = RunOne(spec);
  EXPECT_EQ(t.outcome(), OUTCOME_TRUNCATED);
  EXPECT_EQ(SampledIn(t.branches(0)), call + 1);
}

TEST_F(AgentLoopTest, TurnLimitTruncatesWithoutRunningTheCall) {
  engine_.Play(0, {kCall});
  EpisodeSpec spec = Spec(0);
  spec.sampling.set_max_turns(1);
  const Trajectory t = RunOne(spec);
  EXPECT_EQ(t.outcome(), OUTCOME_TRUNCATED);
  EXPECT_EQ(t.tool_calls_size(), 0);
}

TEST_F(AgentLoopTest, ResultThatDoesNotFitTruncatesAtTheLastSampledToken) {
  engine_.Play(0, {kAnswer});
  const int64_t prompt = static_cast<int64_t>(
      RunOne(Spec(0)).branches(0).tokens().size() / 4 - Encode(kAnswer).size());
  engine_.Play(1, {kCall});
  const int64_t call = static_cast<int64_t>(Encode(kCall).size());
  engine_.capacity = prompt + call + 1;
  const Trajectory t = RunOne(Spec(1));
  EXPECT_EQ(t.outcome(), OUTCOME_TRUNCATED);
  EXPECT_EQ(t.branches(0).tokens().size() / 4,
            static_cast<size_t>(prompt + call));
}

TEST_F(AgentLoopTest, EnvironmentsOwnFailureHasNoReward) {
  behaviours_["reset"].reset = absl::UnavailableError("no sandbox");
  behaviours_["step"].step = absl::DeadlineExceededError("lost");
  behaviours_["grade"].grade = absl::InternalError("bug");
  behaviours_["unverified"].verified = false;
  engine_.Play(1, {kCall});
  engine_.Play(2, {kAnswer});
  engine_.Play(3, {kAnswer});
  const Outcome expected[] = {OUTCOME_SANDBOX_ERROR, OUTCOME_SANDBOX_ERROR,
                              OUTCOME_ENVIRONMENT_ERROR,
                              OUTCOME_ENVIRONMENT_ERROR};
  const char* const tasks[] = {"reset", "step", "grade", "unverified"};
  for (uint32_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(tasks[i]);
    const Trajectory t = RunOne(Spec(i, tasks[i]));
    EXPECT_EQ(t.outcome(), expected[i]);
    EXPECT_FALSE(t.has_reward());
    EXPECT_EQ(t.reward_parts_size(), 0);
    EXPECT_FALSE(t.error().empty());
  }
}

TEST_F(AgentLoopTest, AScoreThatIsNoneCostsItsEpisodeAlone) {
  behaviours_["nan"].score = std::numeric_limits<double>::quiet_NaN();
  behaviours_["good"].score = 0.5;
  engine_.Play(1, {kAnswer});
  engine_.Play(2, {kAnswer});
  const Trajectory bad = RunOne(Spec(1, "nan"));
  EXPECT_EQ(bad.outcome(), OUTCOME_ENVIRONMENT_ERROR);
  EXPECT_NE(bad.error().find("score x is nan"), std::string::npos);
  const Trajectory good = RunOne(Spec(2, "good"));
  EXPECT_EQ(good.reward_parts().rbegin()->name(), "score_x");
  EXPECT_EQ(good.reward_parts().rbegin()->value(), 0.5);
}

TEST_F(AgentLoopTest, NobodyWaitsForAnothersTool) {
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  engine_.Play(0, {kCall, kAnswer});
  engine_.Play(1, {kCall, kAnswer});
  EpisodeRunner runner = NewRunner();
  ASSERT_TRUE(runner.Add(Spec(0, "slow")).ok());
  ASSERT_TRUE(runner.Add(Spec(1)).ok());
  std::vector<Trajectory> ended;
  while (ended.empty()) ended = *runner.Advance(1'000'000);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].key().sample(), 1u) << "the quick one";
  release.set_value();
  EXPECT_EQ(Finish(&runner)[0].outcome(), OUTCOME_OK);
}

TEST_F(AgentLoopTest, RecordsDoNotDependOnWhichToolIsSlow) {
  std::string records[2][2];
  for (int slow = 0; slow < 2; ++slow) {
    std::promise<void> release;
    behaviours_["slow"].step_waits_for = release.get_future().share();
    const uint32_t base = slow * 2;  // the script plays a sample once
    EpisodeRunner runner = NewRunner();
    for (uint32_t i = 0; i < 2; ++i) {
      engine_.Play(base + i, {kCall, kAnswer});
      ASSERT_TRUE(
          runner.Add(Spec(base + i, int(i) == slow ? "slow" : "plain")).ok());
    }
    std::map<uint32_t, Trajectory> done;
    while (runner.running() > 1) {
      auto ended = runner.Advance(1'000'000);
      ASSERT_TRUE(ended.ok());
      for (Trajectory& t : *ended) done[t.key().sample()] = t;
    }
    release.set_value();
    for (auto& [sample, t] : Finish(&runner)) done[sample] = t;
    for (uint32_t i = 0; i < 2; ++i) {
      records[slow][i] = done[base + i].branches(0).SerializeAsString();
    }
  }
  EXPECT_EQ(records[0][0], records[1][0]);
  EXPECT_EQ(records[0][1], records[1][1]);
}

TEST_F(AgentLoopTest, CancelledEpisodesCarryNoReward) {
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  engine_.Play(0, {kCall});
  EpisodeRunner runner = NewRunner();
  ASSERT_TRUE(runner.Add(Spec(0, "slow")).ok());
  while (engine_.open() == 0) ASSERT_TRUE(runner.Advance(1'000'000).ok());
  ASSERT_EQ(runner.waiting_for_environment(), 1);
  const std::vector<Trajectory> ended = runner.CancelAll("stop");
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].outcome(), OUTCOME_CANCELLED);
  EXPECT_FALSE(ended[0].has_reward());
  EXPECT_EQ(engine_.open(), 0u);
  release.set_value();
}

TEST_F(AgentLoopTest, EnvironmentsEndInTheJobPoolHoweverTheEpisodeEnds) {
  behaviours_["reset"].reset = absl::UnavailableError("no sandbox");
  behaviours_["step"].step = absl::DeadlineExceededError("lost");
  behaviours_["grade"].grade = absl::InternalError("bug");
  behaviours_["unverified"].verified = false;
  const char* const tasks[] = {"plain", "reset", "step", "grade", "unverified"};
  for (uint32_t i = 0; i < 5; ++i) {
    engine_.Play(i, {kCall, kAnswer});
    RunOne(Spec(i, tasks[i]));
  }
  engine_.capacity = 3;  // the prompt does not fit
  RunOne(Spec(5));
  engine_.capacity = 100000;
  // Cancelled: generating, in the middle of a call, its call just over.
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  EpisodeRunner runner = NewRunner();
  engine_.Play(6, {kAnswer});
  ASSERT_TRUE(runner.Add(Spec(6)).ok());
  while (jobs_->pending() > 0) {
    for (const int64_t tag : jobs_->TakeFinished(1'000'000)) EXPECT_EQ(tag, 1);
  }
  runner.CancelAll("its reset is over");
  engine_.Play(7, {kCall, kAnswer});
  ASSERT_TRUE(runner.Add(Spec(7, "slow")).ok());
  while (engine_.open() == 0) ASSERT_TRUE(runner.Advance(1'000'000).ok());
  runner.CancelAll("its call goes on");
  {
    const EpisodeServices services = Services();
    AgentLoop generating(Spec(8), &services, /*tag=*/8);
    generating.Start();
    while (jobs_->TakeFinished(1'000'000) != std::vector<int64_t>{8}) {
    }
    generating.OnJobDone();
    EXPECT_EQ(generating.state(), AgentLoop::State::kGenerating);
  }
  release.set_value();
  jobs_.reset();
  EXPECT_EQ(ends_.threads().size(), 9u);
  for (const std::thread::id& thread : ends_.threads()) {
    EXPECT_NE(thread, std::this_thread::get_id());
  }
}

TEST_F(AgentLoopTest, SamplingMustBeWhole) {
  EpisodeRunner runner = NewRunner();
  EpisodeSpec spec = Spec(0);
  spec.sampling.clear_max_tokens();
  const absl::Status status = runner.Add(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("lacks max_tokens"),
            std::string::npos);
}

TEST_F(AgentLoopTest, SpecOutOfRangeIsRefused) {
  EpisodeRunner runner = NewRunner();
  EpisodeSpec spec = Spec(0);
  spec.sampling.set_top_p(1.5);
  EXPECT_EQ(runner.Add(spec).code(), absl::StatusCode::kInvalidArgument);
  spec = Spec(0);
  for (const uint32_t turns : {0u, kEpisodeTurnsMax + 1}) {
    spec.sampling.set_max_turns(turns);
    EXPECT_EQ(runner.Add(spec).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(runner.running(), 0);
}

}  // namespace
}  // namespace temper
