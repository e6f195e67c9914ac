#include "learner/intake/trajectory_door.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

bool Known(uint64_t version) { return version == 1 || version == 2; }

TrajectoryDoor Door(const DoorLimits& limits = FixtureLimits()) {
  return *TrajectoryDoor::Create(limits);
}

// The door's answer to the good trajectory after `spoil` has had it.
template <typename Spoil>
std::string Refusal(Spoil spoil, const DoorLimits& limits = FixtureLimits()) {
  Trajectory trajectory = FixtureTrajectory(3, 1);
  spoil(&trajectory);
  auto episode = Door(limits).Admit(trajectory, Known);
  return episode.ok() ? "admitted" : std::string(episode.status().message());
}

TEST(TrajectoryDoorTest, AGoodTrajectoryIsDecodedWhole) {
  auto episode = Door().Admit(FixtureTrajectory(3, 1), Known);
  ASSERT_TRUE(episode.ok()) << episode.status();
  EXPECT_EQ(episode->group, 3u);
  EXPECT_EQ(episode->sample, 1u);
  EXPECT_TRUE(episode->has_reward);
  EXPECT_EQ(episode->reward, 0.75);
  ASSERT_EQ(episode->branches.size(), 1u);
  const EpisodeBranch& branch = episode->branches[0];
  EXPECT_THAT(branch.tokens, ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(branch.sampled, ElementsAre(2, 3));
  EXPECT_THAT(branch.logprobs, ElementsAre(-0.5f, -0.25f));
  EXPECT_THAT(branch.kept_offsets, ElementsAre(0, 2, 2));
  EXPECT_THAT(branch.kept_ids, ElementsAre(4, 7));
  EXPECT_THAT(branch.routes, ElementsAre(0, 2, 0, 2, 0, 2));
  EXPECT_EQ(episode->OldestVersion(), 1u);
}

// Committed, it would end the learner that trains it, and each after it.
TEST(TrajectoryDoorTest, WhatFitsNoBatchOfTheLearnerIsRefused) {
  EXPECT_THAT(Refusal([](Trajectory* t) {
                t->mutable_branches(0)->set_tokens(
                    PackArray(std::vector<int32_t>(kEpisodeTokensMax + 1, 5)));
              }),
              HasSubstr("number of tokens"));
}

TEST(TrajectoryDoorTest, EveryMisalignedOrOutOfRangeArrayIsNamed) {
  auto branch = [](Trajectory* t) { return t->mutable_branches(0); };
  EXPECT_THAT(Refusal([&](Trajectory* t) {
                branch(t)->set_tokens(PackArray<int32_t>({5, 6, 7, 10}));
              }),
              HasSubstr("tokens[3] is 10"));
  EXPECT_THAT(Refusal([&](Trajectory* t) {
                branch(t)->set_tokens(branch(t)->tokens() + "x");
              }),
              HasSubstr("tokens has 17 bytes"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { branch(t)->set_sampled("\x1c"); }),
              HasSubstr("sampled marks token 4"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { branch(t)->set_sampled("\x0d"); }),
              HasSubstr("sampled marks token 0"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { branch(t)->set_sampled("\x08"); }),
              HasSubstr("logprobs has 8 bytes, not 4"));
  EXPECT_THAT(Refusal([&](Trajectory* t) {
                branch(t)->set_logprobs(PackArray<float>(
                    {-1.0f, std::numeric_limits<float>::quiet_NaN()}));
              }),
              HasSubstr("logprobs[1]"));
  EXPECT_THAT(Refusal([&](Trajectory* t) {
                branch(t)->set_logprobs(PackArray<float>({0.5f, -1.0f}));
              }),
              HasSubstr("logprobs[0] is 0.5"));
}

TEST(TrajectoryDoorTest, TurnsLieWithinTheirBranchInOrderWithoutOverlap) {
  auto turn = [](Trajectory* t) { return t->mutable_turns(0); };
  EXPECT_THAT(Refusal([&](Trajectory* t) { turn(t)->set_branch(1); }),
              HasSubstr("turns[0].branch is 1 of 1"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { turn(t)->set_token_end(5); }),
              HasSubstr("turns[0].token_end is 5; branch 0 has 4 tokens"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { turn(t)->set_token_begin(5); }),
              HasSubstr("turns[0].token_end is 4, before its token_begin, 5"));
  const auto second = [](uint32_t begin, uint32_t end) {
    return [begin, end](Trajectory* t) {
      Turn* const added = t->add_turns();
      added->set_token_begin(begin);
      added->set_token_end(end);
    };
  };
  EXPECT_THAT(Refusal(second(3, 4)),
              HasSubstr("turns[1].token_begin is 3, within the turn before, "
                        "which ends at 4"));
  EXPECT_THAT(Refusal(second(0, 2)), HasSubstr("turns[1].token_begin is 0"));
  EXPECT_EQ(Refusal(second(4, 4)), "admitted");
  EXPECT_EQ(Refusal(second(2, 4)), "admitted") << "messages of one prompt";
  EXPECT_THAT(Refusal([&](Trajectory* t) {
                *t->add_branches() = t->branches(0);
                turn(t)->set_branch(1);
                second(0, 2)(t);
              }),
              HasSubstr("turns[1].branch is 0 after 1"));
  EXPECT_EQ(Refusal([&](Trajectory* t) {
              *t->add_branches() = t->branches(0);
              second(0, 2)(t);
              t->mutable_turns(1)->set_branch(1);
            }),
            "admitted");
  // A prompt too long to be sampled from has no branch.
  Trajectory failure = FixtureFailure(3, 1);
  failure.add_turns()->set_token_end(1 << 20);
  EXPECT_TRUE(Door().Admit(failure, Known).ok());
}

TEST(TrajectoryDoorTest, CallsOfTheEnvironmentAreNotMoreThanTurnsAndTwo) {
  const auto with = [](int calls) {
    return Refusal([&](Trajectory* t) {
      t->clear_environment_calls();
      for (int i = 0; i < calls; ++i) t->add_environment_calls();
    });
  };
  EXPECT_EQ(with(4098), "admitted");
  EXPECT_THAT(with(4099), HasSubstr("the number of environment calls"));
}

TEST(TrajectoryDoorTest, AToolCallIsOfATurnAndNamesAreBounded) {
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->mutable_tool_calls(0)->set_turn(1); }),
      HasSubstr("tool_calls[0].turn is 1; there are 1 turns"));
  const std::string name(kNameBytesMax, 'n');
  using Spoil = void (*)(Trajectory*, const std::string&);
  const std::pair<const char*, Spoil> cases[] = {
      {"the worker's name",
       [](Trajectory* t, const std::string& n) { t->set_worker(n); }},
      {"a turn's role",
       [](Trajectory* t, const std::string& n) {
         t->mutable_turns(0)->set_role(n);
       }},
      {"a tool's name",
       [](Trajectory* t, const std::string& n) {
         t->mutable_tool_calls(0)->mutable_call()->set_name(n);
       }},
      {"a reward part's name",
       [](Trajectory* t, const std::string& n) {
         t->mutable_reward_parts(0)->set_name(n);
       }},
  };
  for (const auto& named : cases) {  // clang's lambdas capture no binding
    const auto& spoil = named.second;
    EXPECT_EQ(Refusal([&](Trajectory* t) { spoil(t, name); }), "admitted");
    EXPECT_THAT(Refusal([&](Trajectory* t) { spoil(t, name + "n"); }),
                HasSubstr(std::string(named.first) +
                          " in bytes is 1025, above the limit of 1024"));
  }
}

TEST(TrajectoryDoorTest, AKeptSetAscendsHoldsTheSampledIdAndIsBounded) {
  auto with_kept = [](std::vector<uint32_t> offsets, std::vector<int32_t> ids) {
    return [=](Trajectory* t) {
      t->mutable_branches(0)->set_kept_offsets(PackArray<uint32_t>(offsets));
      t->mutable_branches(0)->set_kept_ids(PackArray<int32_t>(ids));
    };
  };
  EXPECT_THAT(Refusal(with_kept({0, 2, 2}, {7, 4})), HasSubstr("id 4 after 7"));
  EXPECT_THAT(Refusal(with_kept({0, 2, 2}, {7, 7})), HasSubstr("id 7 after 7"));
  EXPECT_THAT(Refusal(with_kept({0, 2, 2}, {4, 5})),
              HasSubstr("lacks the sampled id 7"));
  EXPECT_THAT(Refusal(with_kept({0, 2, 2}, {7, 10})), HasSubstr("id 10"));
  EXPECT_THAT(Refusal(with_kept({0, 2, 1}, {4, 7})),
              HasSubstr("kept_offsets runs from 0 to 1"));
  EXPECT_THAT(Refusal(with_kept({0, 9, 2}, {4, 7})),
              HasSubstr("kept_offsets[1] is 9"));
  EXPECT_THAT(Refusal(with_kept({0, 2}, {4, 7})),
              HasSubstr("kept_offsets has 8 bytes"));
  DoorLimits small = FixtureLimits();
  small.kept_max = 1;
  EXPECT_THAT(Refusal([](Trajectory*) {}, small),
              HasSubstr("kept set is 2, above the limit of 1"));
}

TEST(TrajectoryDoorTest, WithoutTheSamplingMaskThereAreNoKeptSets) {
  DoorLimits whole = FixtureLimits();
  whole.kept_sets_allowed = false;
  EXPECT_THAT(Refusal([](Trajectory*) {}, whole),
              HasSubstr("with keep_sampling_mask off there are none"));
  EXPECT_EQ(Refusal(
                [](Trajectory* t) {
                  Branch* const branch = t->mutable_branches(0);
                  branch->clear_kept_ids();
                  branch->set_kept_offsets(
                      std::string(branch->kept_offsets().size(), '\0'));
                },
                whole),
            "admitted");
}

TEST(TrajectoryDoorTest, RoutesAreThereInRangeAscendingAndDistinct) {
  auto with_routes = [](std::string routes) {
    return [=](Trajectory* t) { t->mutable_branches(0)->set_routes(routes); };
  };
  const std::string good("\0\2\0\2", 4);
  EXPECT_THAT(Refusal(with_routes("")), HasSubstr("routes are missing"));
  EXPECT_THAT(Refusal(with_routes(good)), HasSubstr("routes has 4 bytes"));
  EXPECT_THAT(Refusal(with_routes(good + std::string("\1\1", 2))),
              HasSubstr("expert 1 after 1"));
  EXPECT_THAT(Refusal(with_routes(good + std::string("\2\1", 2))),
              HasSubstr("expert 1 after 2"));
  EXPECT_THAT(Refusal(with_routes(good + std::string("\1\4", 2))),
              HasSubstr("expert 4 after 1"));
  DoorLimits live = FixtureLimits();
  live.routes_required = false;
  EXPECT_EQ(Refusal(with_routes(""), live), "admitted");
}

TEST(TrajectoryDoorTest, TwoByteRoutesAreReadAboveTwoHundredFiftySixExperts) {
  DoorLimits limits = FixtureLimits();
  limits.experts = 300;
  Trajectory trajectory = FixtureTrajectory(3, 1);
  Branch* branch = trajectory.mutable_branches(0);
  branch->set_routes(PackArray<uint16_t>({1, 299, 1, 299, 1, 299}));
  EXPECT_FALSE(Door(limits).Admit(trajectory, Known).ok());
  branch->set_route_bytes(2);
  auto episode = Door(limits).Admit(trajectory, Known);
  ASSERT_TRUE(episode.ok()) << episode.status();
  EXPECT_THAT(episode->branches[0].routes, ElementsAre(1, 299, 1, 299, 1, 299));
}

TEST(TrajectoryDoorTest, VersionsAreKnownAndCoverEverySampledToken) {
  auto span = [](Trajectory* t) {
    return t->mutable_branches(0)->mutable_versions(0);
  };
  EXPECT_THAT(Refusal([&](Trajectory* t) { span(t)->set_version(3); }),
              HasSubstr("weight version 3"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { span(t)->set_end(1); }),
              HasSubstr("cover 1 of 2"));
  EXPECT_THAT(Refusal([&](Trajectory* t) { span(t)->set_begin(1); }),
              HasSubstr("does not follow on 0"));
}

TEST(TrajectoryDoorTest, ARewardIsThereIffAVerifierRanAndTheOutcomeIsGraded) {
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->set_outcome(OUTCOME_SANDBOX_ERROR); }),
      HasSubstr("OUTCOME_SANDBOX_ERROR"));
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->mutable_verdict()->set_verified(false); }),
      HasSubstr("verified 0"));
  EXPECT_THAT(Refusal([](Trajectory* t) { t->set_has_reward(false); }),
              HasSubstr("has_reward is 0"));
  EXPECT_THAT(Refusal([](Trajectory* t) { t->set_reward(0.8); }),
              HasSubstr("not the sum of its parts"));
  EXPECT_THAT(Refusal([](Trajectory* t) {
                t->set_reward(std::numeric_limits<double>::infinity());
              }),
              HasSubstr("reward inf"));
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->mutable_reward_parts(0)->set_name(""); }),
      HasSubstr("a reward part is called \"\""));
  EXPECT_THAT(Refusal([](Trajectory* t) {
                *t->add_reward_parts() = t->reward_parts(0);
              }),
              HasSubstr("each has a name of its own"));
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->set_outcome(OUTCOME_UNSPECIFIED); }),
      HasSubstr("outcome 0"));
  EXPECT_EQ(Refusal([](Trajectory* t) { t->set_outcome(OUTCOME_TRUNCATED); }),
            "admitted");
}

TEST(TrajectoryDoorTest, AnInfrastructureFailurePassesWithoutBranchesOrReward) {
  auto episode = Door().Admit(FixtureFailure(3, 1), Known);
  ASSERT_TRUE(episode.ok()) << episode.status();
  EXPECT_FALSE(episode->has_reward);
  Trajectory with_reward = FixtureFailure(3, 1);
  with_reward.set_reward(1);
  EXPECT_FALSE(Door().Admit(with_reward, Known).ok());
}

TEST(TrajectoryDoorTest, AnotherRunAnotherWireVersionAndExcessAreRefused) {
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->mutable_key()->set_run("other"); }),
      HasSubstr("\"other\" is not this run"));
  EXPECT_THAT(
      Refusal([](Trajectory* t) { t->set_wire_version(kWireVersion + 1); }),
      HasSubstr("; this learner reads"));
  DoorLimits small = FixtureLimits();
  small.tokens_max = 3;
  EXPECT_THAT(Refusal([](Trajectory*) {}, small), HasSubstr("tokens is 4"));
  small = FixtureLimits();
  small.message_bytes_max = 10;
  const Trajectory good = FixtureTrajectory(3, 1);
  EXPECT_EQ(Door(small).Parse(good.key(), std::string(11, 'x')).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::IsDataLoss(Door().Parse(good.key(), "\xff\xff").status()));
  EXPECT_TRUE(Door().Parse(good.key(), good.SerializeAsString()).ok());
  TrajectoryKey other = good.key();
  other.set_lease(9);
  EXPECT_TRUE(absl::IsInvalidArgument(
      Door().Parse(other, good.SerializeAsString()).status()));
}

// The buffer samples the one again and drops the other's group.
TEST(TrajectoryDoorTest, UnknownVersionsAreToldFromWhatIsNotSound) {
  Trajectory trajectory = FixtureTrajectory(3, 1, 1, /*version=*/3);
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Door().Admit(trajectory, Known).status()));
  trajectory.mutable_branches(0)->clear_routes();
  EXPECT_TRUE(
      absl::IsInvalidArgument(Door().Admit(trajectory, Known).status()));
}

}  // namespace
}  // namespace temper
