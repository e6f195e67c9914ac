#include "rollout/episode_runner.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

EpisodeRunner::EpisodeRunner(const EpisodeServices& services, int episodes_max)
    : services_(services), episodes_max_(episodes_max) {
  CHECK(episodes_max > 0) << "episodes_max " << episodes_max;
}

absl::Status EpisodeRunner::Add(EpisodeSpec spec) {
  RETURN_IF_ERROR(ValidateEpisodeSpec(spec));
  if (running() >= episodes_max_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        episodes_max_, " episodes are running; wait until one ends"));
  }
  const int64_t tag = next_tag_++;
  auto episode = std::make_unique<AgentLoop>(std::move(spec), &services_, tag);
  episode->Start();
  if (episode->state() == AgentLoop::State::kDone) stillborn_.push_back(tag);
  episodes_[tag] = std::move(episode);
  return absl::OkStatus();
}

void EpisodeRunner::Follow(int64_t tag, std::vector<Trajectory>* ended) {
  const auto found = episodes_.find(tag);
  AgentLoop& episode = *found->second;
  in_open_step_.erase(tag);
  switch (episode.state()) {
    case AgentLoop::State::kGenerating:
      tag_of_sequence_[episode.sequence()] = tag;
      return;
    case AgentLoop::State::kEnvironment:
      if (episode.in_open_step()) in_open_step_.insert(tag);
      return;
    case AgentLoop::State::kDone:
      ended->push_back(episode.Take());
      episodes_.erase(found);
      return;
  }
}

absl::StatusOr<std::vector<Trajectory>> EpisodeRunner::Advance(
    int64_t wait_us) {
  std::vector<Trajectory> ended;
  // No job announces their end.
  for (const int64_t tag : stillborn_) Follow(tag, &ended);
  stillborn_.clear();

  const bool engine_busy = services_.engine->has_running();
  // Only where nothing else is to be done: a wait here is one of every episode
  // that samples.
  const bool may_wait = !engine_busy && ended.empty();
  for (const int64_t tag :
       services_.jobs->TakeFinished(may_wait ? wait_us : 0)) {
    const auto found = episodes_.find(tag);
    if (found == episodes_.end()) continue;  // was cancelled
    found->second->OnJobDone();
    Follow(tag, &ended);
  }
  if (!services_.engine->has_running()) return ended;
  ASSIGN_OR_RETURN(const std::vector<StoppedSequence> stopped,
                   services_.engine->Step());
  for (const StoppedSequence& sequence : stopped) {
    const auto owner = tag_of_sequence_.find(sequence.id);
    CHECK(owner != tag_of_sequence_.end()) << "sequence of no episode";
    const int64_t tag = owner->second;
    // Before the episode is told: it may begin its next turn, which is noted
    // anew.
    tag_of_sequence_.erase(owner);
    episodes_.at(tag)->OnStopped(sequence.reason);
    Follow(tag, &ended);
  }
  return ended;
}

std::vector<Trajectory> EpisodeRunner::CancelAll(const std::string& why) {
  std::vector<Trajectory> ended;
  for (auto& [tag, episode] : episodes_) {
    episode->Cancel(why);
    ended.push_back(episode->Take());
  }
  episodes_.clear();
  tag_of_sequence_.clear();
  in_open_step_.clear();
  stillborn_.clear();
  return ended;
}

int EpisodeRunner::waiting_for_environment() const {
  int waiting = 0;
  for (const auto& [tag, episode] : episodes_) {
    waiting += episode->state() == AgentLoop::State::kEnvironment;
  }
  return waiting;
}

std::vector<EnvironmentWait> EpisodeRunner::EnvironmentWaits() const {
  std::map<std::pair<std::string, AgentLoop::Call>, EnvironmentWait> waits;
  for (const auto& [tag, episode] : episodes_) {
    if (episode->state() != AgentLoop::State::kEnvironment) continue;
    const int64_t since_us = episode->waiting_since_us();
    EnvironmentWait& wait = waits[{episode->environment(), episode->call()}];
    if (wait.episodes == 0 || since_us < wait.since_us) {
      wait.since_us = since_us;
    }
    wait.environment = episode->environment();
    wait.call = episode->call();
    ++wait.episodes;
  }
  std::vector<EnvironmentWait> result;
  for (auto& [key, wait] : waits) result.push_back(std::move(wait));
  return result;
}

}  // namespace temper
