// Environments whose calls have threads of their own.

#include <future>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "rollout/agent_loop_fixture.h"
#include "rollout/episode_runner.h"
#include "rollout/job_lanes.h"

namespace temper {
namespace {

EnvironmentFacts Served(const char* name, ServedIn where) {
  EnvironmentFacts facts;
  facts.name = name;
  facts.served_in = where;
  return facts;
}

TEST(JobLanesTest, OneHostIsOneLaneAndOthersAreApart) {
  const EnvironmentFacts facts[] = {Served("math", ServedIn::kWorker),
                                    Served("search", ServedIn::kWorker),
                                    Served("code", ServedIn::kHost),
                                    Served("interpreter", ServedIn::kHost),
                                    Served("words", ServedIn::kRegistered),
                                    Served("far", ServedIn::kRegistered)};
  auto lanes = JobLanes(
      {&facts[0], &facts[1], &facts[2], &facts[3], &facts[4], &facts[5]});
  EXPECT_EQ(lanes.count("math") + lanes.count("search"), 0u);
  EXPECT_EQ(lanes["code"], lanes["interpreter"])
      << "a host is asked more at a time than its slots serve";
  EXPECT_EQ(
      (std::set<std::string>{"", lanes["code"], lanes["words"], lanes["far"]}
           .size()),
      4u);
}

// Of a host, whose candidates may fill every limit of their calls.
TEST_F(AgentLoopTest, CallsOfAHostThatHangHoldUpNoneOfTheWorker) {
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  const EnvironmentFacts hosted = Served("code", ServedIn::kHost);
  const EnvironmentFacts here = Served("fake", ServedIn::kWorker);
  EpisodeServices services = Services();
  services.lanes = JobLanes({&hosted, &here});
  EpisodeRunner runner(services, 64);
  constexpr uint32_t kStuck = 4;  // as many as the fixture's pool has threads
  for (uint32_t i = 0; i < kStuck; ++i) {
    engine_.Play(i, {kCall, kAnswer});
    EpisodeSpec spec = Spec(i, "slow");
    spec.task.set_environment("code");
    ASSERT_TRUE(runner.Add(spec).ok());
  }
  while (engine_.open() < kStuck ||
         runner.waiting_for_environment() < static_cast<int>(kStuck)) {
    ASSERT_TRUE(runner.Advance(1'000'000).ok());
  }
  engine_.Play(kStuck, {kCall, kAnswer});
  ASSERT_TRUE(runner.Add(Spec(kStuck)).ok());
  std::vector<Trajectory> ended;
  for (int tries = 0; tries < 20 && ended.empty(); ++tries) {
    ended = *runner.Advance(1'000'000);
  }
  release.set_value();
  ASSERT_EQ(ended.size(), 1u) << "it waits for the threads of the other";
  EXPECT_EQ(ended[0].key().sample(), kStuck);
  Finish(&runner);
}

}  // namespace
}  // namespace temper
