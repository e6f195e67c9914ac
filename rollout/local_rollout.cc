#include "rollout/local_rollout.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer_file.h"
#include "rollout/episode_runner.h"
#include "rollout/job_pool.h"

namespace temper {
namespace {

constexpr int64_t kWaitUs = 100'000;

int64_t NowMs() { return SystemClock()->MonotonicMicros() / 1000; }

absl::Status Validate(const PublishedWeights& weights,
                      const Tokenizer& tokenizer,
                      const std::vector<Task>& tasks,
                      const LocalRolloutOptions& options) {
  if (tasks.empty() || options.samples == 0 || options.job_threads < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "nothing to run: ", tasks.size(), " tasks, ", options.samples,
        " samples each, ", options.job_threads, " job threads"));
  }
  return CheckVocabulary(tokenizer, weights.config().vocab_size);
}

EpisodeSpec SpecOf(const std::vector<Task>& tasks, int64_t index,
                   const LocalRolloutOptions& options) {
  EpisodeSpec spec;
  const int64_t task = index / options.samples;
  spec.key.set_run(options.run);
  spec.key.set_group(options.first_group + task);
  spec.key.set_sample(static_cast<uint32_t>(index % options.samples));
  spec.purpose = options.purpose;
  spec.task = tasks[task];
  spec.sampling = options.sampling;
  spec.seed = options.seed;
  return spec;
}

// Runs all of them, at most `at_once` at a time.
absl::StatusOr<std::vector<Trajectory>> RunAll(
    const EpisodeServices& services, const std::vector<Task>& tasks,
    int at_once, const LocalRolloutOptions& options) {
  EpisodeRunner runner(services, at_once);
  const int64_t total = static_cast<int64_t>(tasks.size()) * options.samples;
  std::vector<Trajectory> done;
  int64_t next = 0;
  int64_t progress_ms = NowMs();
  while (static_cast<int64_t>(done.size()) < total) {
    while (next < total && runner.running() < at_once) {
      RETURN_IF_ERROR(runner.Add(SpecOf(tasks, next, options)));
      ++next;
    }
    ASSIGN_OR_RETURN(std::vector<Trajectory> ended, runner.Advance(kWaitUs));
    // While the engine samples, it goes on, however slow; only environments can
    // stall.
    if (!ended.empty() || services.engine->has_running()) progress_ms = NowMs();
    if (NowMs() - progress_ms > options.stall_ms_max) {
      return absl::DeadlineExceededError(
          absl::StrCat(runner.waiting_for_environment(), " episodes waited ",
                       options.stall_ms_max, " ms for their environments"));
    }
    if (options.stop != nullptr && *options.stop) {
      return absl::CancelledError("the rollout was stopped");
    }
    std::move(ended.begin(), ended.end(), std::back_inserter(done));
    if (options.progress && !ended.empty()) {
      options.progress(static_cast<int64_t>(done.size()), total);
    }
  }
  // They end in an order that depends on how long their tools took.
  std::sort(done.begin(), done.end(),
            [](const Trajectory& a, const Trajectory& b) {
              return std::make_pair(a.key().group(), a.key().sample()) <
                     std::make_pair(b.key().group(), b.key().sample());
            });
  return done;
}

}  // namespace

absl::StatusOr<std::vector<Trajectory>> RunLocalRollout(
    Backend* backend, PublishedWeights* weights, const Tokenizer& tokenizer,
    const std::vector<Task>& tasks, const EnvironmentFactory& new_environment,
    const LocalRolloutOptions& options) {
  RETURN_IF_ERROR(Validate(*weights, tokenizer, tasks, options));
  ASSIGN_OR_RETURN(const auto chat_template, ChatTemplate::Create(&tokenizer));
  ASSIGN_OR_RETURN(const auto chat_parser, ChatParser::Create(&tokenizer));
  ASSIGN_OR_RETURN(const auto reward, Reward::Create(options.rewards));
  ASSIGN_OR_RETURN(
      const auto engine,
      Engine::Create(backend, weights, options.weight_version, options.engine));
  // As many as there are sequences: an episode holds one from its Reset to its
  // end.
  const int at_once = static_cast<int>(options.engine.sequences_max);
  JobPool jobs(options.job_threads, at_once);
  EpisodeServices services;
  services.engine = engine.get();
  services.tokenizer = &tokenizer;
  services.chat_template = chat_template.get();
  services.chat_parser = chat_parser.get();
  services.reward = reward.get();
  services.jobs = &jobs;
  services.new_environment = new_environment;
  services.worker = "local";
  return RunAll(services, tasks, at_once, options);
}

}  // namespace temper
