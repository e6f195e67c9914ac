// Trajectories for tests: small, whole and valid under FixtureLimits().

#ifndef LEARNER_INTAKE_TRAJECTORY_FIXTURE_H_
#define LEARNER_INTAKE_TRAJECTORY_FIXTURE_H_

#include <string>
#include <vector>

#include "learner/intake/trajectory_door.h"
#include "proto/trajectory.pb.h"
#include "proto/wire/packed_array.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {

// Run "trial", vocabulary 10, one MoE layer of 4 experts, 2 a token.
inline DoorLimits FixtureLimits() {
  DoorLimits limits;
  limits.run = "trial";
  limits.vocab_size = 10;
  limits.moe_layers = 1;
  limits.experts = 4;
  limits.experts_per_token = 2;
  return limits;
}

// Four tokens, the last two sampled from weight version `version`.
inline Trajectory FixtureTrajectory(uint64_t group, uint32_t sample,
                                    uint64_t lease = 1, uint64_t version = 1) {
  Trajectory trajectory;
  trajectory.set_wire_version(kWireVersion);
  trajectory.mutable_key()->set_run("trial");
  trajectory.mutable_key()->set_group(group);
  trajectory.mutable_key()->set_sample(sample);
  trajectory.mutable_key()->set_lease(lease);
  trajectory.set_purpose(PURPOSE_TRAIN);
  trajectory.set_task_id("task");
  trajectory.set_environment("math");
  trajectory.set_seed(uint64_t{1} << 63);
  trajectory.set_outcome(OUTCOME_OK);
  trajectory.mutable_verdict()->set_outcome(OUTCOME_OK);
  trajectory.mutable_verdict()->set_verified(true);
  trajectory.mutable_verdict()->set_correct(true);
  trajectory.set_has_reward(true);
  trajectory.set_reward(0.75);
  RewardPart* part = trajectory.add_reward_parts();
  part->set_name("rule");
  part->set_value(1.5);
  part->set_weight(0.5);
  Branch* branch = trajectory.add_branches();
  branch->set_tokens(PackArray<int32_t>({5, 6, 7, 8}));
  branch->set_sampled("\x0c");
  branch->set_logprobs(PackArray<float>({-0.5f, -0.25f}));
  branch->set_kept_offsets(PackArray<uint32_t>({0, 2, 2}));
  branch->set_kept_ids(PackArray<int32_t>({4, 7}));
  branch->set_routes(std::string("\0\2\0\2\0\2", 6));
  branch->set_route_bytes(1);
  VersionSpan* span = branch->add_versions();
  span->set_end(2);
  span->set_version(version);
  Turn* turn = trajectory.add_turns();
  turn->set_role("assistant");
  turn->set_text("answer");
  turn->set_token_begin(2);
  turn->set_token_end(4);
  ToolCallRecord* call = trajectory.add_tool_calls();
  call->mutable_call()->set_name("python");
  call->mutable_call()->set_arguments_json("{}");
  call->mutable_result()->set_content("42");
  call->mutable_result()->set_outcome(OUTCOME_OK);
  trajectory.add_environment_calls()->set_kind(ENVIRONMENT_CALL_RESET);
  trajectory.set_worker("w0");
  return trajectory;
}

// An episode that the infrastructure failed.
inline Trajectory FixtureFailure(uint64_t group, uint32_t sample,
                                 uint64_t lease = 1) {
  Trajectory trajectory = FixtureTrajectory(group, sample, lease);
  trajectory.set_outcome(OUTCOME_SANDBOX_ERROR);
  trajectory.clear_verdict();
  trajectory.clear_has_reward();
  trajectory.clear_reward();
  trajectory.clear_reward_parts();
  trajectory.clear_branches();
  trajectory.clear_turns();
  trajectory.clear_tool_calls();
  trajectory.set_error("the sandbox would not start");
  return trajectory;
}

}  // namespace temper

#endif  // LEARNER_INTAKE_TRAJECTORY_FIXTURE_H_
