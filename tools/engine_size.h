// How large an engine is made: one rule for workers, eval, generate and the
// printed plan.
//
// Functions without state; thread-safe.

#ifndef TOOLS_ENGINE_SIZE_H_
#define TOOLS_ENGINE_SIZE_H_

#include <cstdint>

#include "proto/config.pb.h"
#include "rollout/engine.h"

namespace temper {

// An engine with room for `samples` episodes at once (256 at most: the others
// wait) of `max_tokens` sampled tokens each and about as many that are read.
EngineOptions SizeEngine(int64_t samples, int64_t max_tokens);

// The episodes that one worker of a run holds at once: its share of a step's
// batch, as far as an engine has room.
int64_t WorkerSamples(const RunConfig& config);

}  // namespace temper

#endif  // TOOLS_ENGINE_SIZE_H_
