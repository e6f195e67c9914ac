// An environment whose calls have threads of their own.

#include <future>
#include <vector>

#include "gtest/gtest.h"
#include "rollout/agent_loop_fixture.h"
#include "rollout/episode_runner.h"

namespace temper {
namespace {

TEST_F(AgentLoopTest, AnEnvironmentApartThatHangsHoldsUpNoOther) {
  std::promise<void> release;
  behaviours_["slow"].step_waits_for = release.get_future().share();
  EpisodeServices services = Services();
  services.apart = {"stuck"};
  EpisodeRunner runner(services, 64);
  constexpr uint32_t kStuck = 4;  // as many as the fixture's pool has threads
  for (uint32_t i = 0; i < kStuck; ++i) {
    engine_.Play(i, {kCall, kAnswer});
    EpisodeSpec spec = Spec(i, "slow");
    spec.task.set_environment("stuck");
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
