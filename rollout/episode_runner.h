// Many episodes over one engine: gives stopped sequences and finished jobs to
// the episode they belong to, and the engine its turn. The worker and the local
// rollout both stand on it.
//
// Not thread-safe; the engine's thread drives it.

#ifndef ROLLOUT_EPISODE_RUNNER_H_
#define ROLLOUT_EPISODE_RUNNER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/trajectory.pb.h"
#include "rollout/agent_loop.h"

namespace temper {

// Episodes that wait for the same call of the same environment.
struct EnvironmentWait {
  std::string environment;
  AgentLoop::Call call = AgentLoop::Call::kReset;
  int episodes = 0;
  int64_t since_us = 0;  // of the longest, on the monotonic clock
};

class EpisodeRunner {
 public:
  // Everything in `services` must be set and outlive the object. No more than
  // `episodes_max` run at once; the engine's sequences_max and the job pool's
  // jobs_max must be at least that.
  EpisodeRunner(const EpisodeServices& services, int episodes_max);

  // Starts an episode. InvalidArgument: the spec; ResourceExhausted: as many
  // as may run do. Nothing is changed then.
  absl::Status Add(EpisodeSpec spec);

  // Goes on by one engine step, or, if no sequence is running, by waiting up to
  // `wait_us` for an environment. Returns the episodes that ended, in an order
  // that means nothing. An error is the engine's: nothing can go on.
  absl::StatusOr<std::vector<Trajectory>> Advance(int64_t wait_us);

  // Ends all of them as CANCELLED and returns them.
  std::vector<Trajectory> CancelAll(const std::string& why);

  int running() const { return static_cast<int>(episodes_.size()); }
  // Episodes waiting for their environment.
  int waiting_for_environment() const;
  // Of those, the ones in a Step that holds no thread: they are in nobody's
  // way.
  int in_open_step() const { return static_cast<int>(in_open_step_.size()); }
  // What they wait for; by environment and call. Linear in the episodes that
  // run; what else is done for one that waits takes no time meanwhile.
  std::vector<EnvironmentWait> EnvironmentWaits() const;

 private:
  // Notes the sequence of an episode that is generating, or takes it if done.
  void Follow(int64_t tag, std::vector<Trajectory>* ended);

  const EpisodeServices services_;
  const int episodes_max_;
  int64_t next_tag_ = 1;
  std::map<int64_t, std::unique_ptr<AgentLoop>> episodes_;  // by tag
  std::map<int64_t, int64_t> tag_of_sequence_;
  std::set<int64_t> in_open_step_;  // tags
  std::vector<int64_t> stillborn_;  // tags of those that could not even start
};

}  // namespace temper

#endif  // ROLLOUT_EPISODE_RUNNER_H_
