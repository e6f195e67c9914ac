#include "tests/delivery.h"

#include <cstdint>

#include "kernels/base/log.h"
#include "learner/intake/trajectory_door.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/branch.h"

namespace temper {
namespace {

TrajectoryDoor OpenDoor(const ModelConfig& config) {
  DoorLimits limits;
  limits.run = "trial";
  limits.vocab_size = static_cast<int32_t>(config.vocab_size);
  limits.moe_layers = static_cast<int32_t>(config.moe_layers());
  limits.experts = static_cast<int32_t>(config.n_routed_experts);
  limits.experts_per_token = static_cast<int32_t>(config.num_experts_per_tok);
  auto door = TrajectoryDoor::Create(limits);
  CHECK(door.ok()) << door.status();
  return *std::move(door);
}

}  // namespace

std::vector<Episode> Deliver(const ModelConfig& config,
                             const std::vector<SequenceRecord>& records,
                             int group_size) {
  const TrajectoryDoor door = OpenDoor(config);
  std::vector<Episode> episodes;
  for (size_t i = 0; i < records.size(); ++i) {
    Trajectory trajectory;
    trajectory.set_wire_version(kWireVersion);
    trajectory.mutable_key()->set_run("trial");
    trajectory.mutable_key()->set_group(1 + i / group_size);
    trajectory.mutable_key()->set_sample(i % group_size);
    trajectory.mutable_key()->set_lease(1);
    trajectory.set_purpose(PURPOSE_TRAIN);
    trajectory.set_task_id("task");
    trajectory.set_environment("math");
    trajectory.set_outcome(OUTCOME_OK);
    trajectory.mutable_verdict()->set_outcome(OUTCOME_OK);
    trajectory.mutable_verdict()->set_verified(true);
    trajectory.set_has_reward(true);
    trajectory.set_reward(static_cast<double>(i % group_size));
    RewardPart* const part = trajectory.add_reward_parts();
    part->set_name("rule");
    part->set_value(trajectory.reward());
    part->set_weight(1);
    *trajectory.add_branches() = PackBranch(records[i], config);
    const auto parsed =
        door.Parse(trajectory.key(), trajectory.SerializeAsString());
    CHECK(parsed.ok()) << parsed.status();
    auto episode = door.Admit(*parsed, [](uint64_t v) { return v == 1; });
    CHECK(episode.ok()) << episode.status();
    episodes.push_back(*std::move(episode));
  }
  return episodes;
}

}  // namespace temper
