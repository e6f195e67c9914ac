#include "tools/run/engine_size.h"

#include <algorithm>

#include "kernels/model/kv_cache.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

constexpr int64_t kSamplesMax = 256;
constexpr int64_t kEpisodesMax = 4096;
constexpr int64_t kSharedPagesMin = 64;  // preambles and prompts
constexpr int64_t kResultTokens = 128;   // of a turn's tool results

int64_t Pages(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace

int64_t EpisodeTokens(const ModelConfig& model) {
  return std::min(model.max_position_embeddings, kEpisodeTokensMax);
}

EngineOptions SizeEngine(const EngineDemand& demand, const ModelConfig& model) {
  const int64_t at_once = std::clamp<int64_t>(demand.samples, 1, kSamplesMax);
  const int64_t group_size = std::max<int64_t>(1, demand.group_size);
  const int64_t groups = (at_once + group_size - 1) / group_size;
  // Tools may write as much as the model; how much is not known, so not below
  // what results have as a rule.
  const int64_t read =
      std::max(demand.max_tokens, kResultTokens * (demand.max_turns - 1));
  // A prompt's last page is each sample's own, and so is the last of all.
  const int64_t own = Pages(demand.max_tokens + read) + 2;
  const int64_t shared =
      std::max(kSharedPagesMin, groups * Pages(demand.prompt_tokens));
  const int64_t longest = Pages(EpisodeTokens(model));
  EngineOptions options;
  options.sequences_max = std::max(at_once, demand.open);
  options.sample_rows_max = at_once;
  options.pages = static_cast<int32_t>(
      // One episode of the greatest length always fits, whoever else is there;
      // more than every sample at its greatest is never used.
      std::clamp(at_once * own + shared, longest, at_once * longest));
  return options;
}

EngineDemand WorkerDemand(const RunConfig& config, int64_t prompt_tokens,
                          bool open_steps) {
  const int64_t prompts = config.objective().prompts_per_step();
  const int64_t workers = config.workers();
  // A group stays with one worker, so one of them may have a group more than
  // others.
  const int64_t groups = (prompts + workers - 1) / workers;
  EngineDemand demand;
  demand.group_size = config.objective().group_size();
  const int64_t share = groups * demand.group_size;
  demand.samples = std::min(kSamplesMax, share);
  demand.open = open_steps ? std::min(kEpisodesMax, share) : demand.samples;
  demand.prompt_tokens = prompt_tokens;
  demand.max_tokens = config.sampling().max_tokens();
  demand.max_turns = config.sampling().max_turns();
  return demand;
}

}  // namespace temper
