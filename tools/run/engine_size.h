// How large an engine is made: one rule for workers, eval, generate and the
// printed plan.
//
// Functions without state; thread-safe.

#ifndef TOOLS_RUN_ENGINE_SIZE_H_
#define TOOLS_RUN_ENGINE_SIZE_H_

#include <cstdint>

#include "kernels/model/config.h"
#include "proto/config.pb.h"
#include "rollout/engine.h"

namespace temper {

// What an engine is to hold at once; more of it waits.
struct EngineDemand {
  int64_t samples = 1;        // episodes, but for those below
  int64_t open = 0;           // in all, with those in nobody's way: in a Step
                              // that stays open (EnvironmentFacts::open_steps)
  int64_t group_size = 1;     // episodes of one prompt, beside one another
  int64_t prompt_tokens = 0;  // of the longest prompt; 0: not known
  int64_t max_tokens = 1;     // sampled in an episode
  int64_t max_turns = 1;      // of the assistant
};

// Tokens that an episode of this model can have, read and sampled: what its
// prompt and max_tokens must keep to.
int64_t EpisodeTokens(const ModelConfig& model);

// An engine with room for `samples` episodes at once, 256 at most: for each the
// sampled tokens, as many that are read between turns, or 128 a turn if that is
// more, and for each group its prompt. One episode of EpisodeTokens always
// fits: how long one may grow does not hang on how many there are.
EngineOptions SizeEngine(const EngineDemand& demand, const ModelConfig& model);

// What one worker of a run holds: its share of a step's batch, as far as an
// engine has room; in all as many, or where Steps may stay open (`open_steps`)
// all of that share, 4096 at most.
EngineDemand WorkerDemand(const RunConfig& config, int64_t prompt_tokens,
                          bool open_steps);

}  // namespace temper

#endif  // TOOLS_RUN_ENGINE_SIZE_H_
