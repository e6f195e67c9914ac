// What --json prints of a run: names are those of run.db's columns and metrics,
// what is not there is null.
//
// Functions without state; thread-safe.

#ifndef TOOLS_VIEW_JSON_VIEW_H_
#define TOOLS_VIEW_JSON_VIEW_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "learner/store/run_reader.h"
#include "learner/store/token_reader.h"
#include "nlohmann/json_fwd.hpp"
#include "tools/cli/json_output.h"

namespace temper {

// {step, seconds, metrics: {name: number or null}}
Json ToJson(const StepView& step);
// {step, environment, episodes, correct, well_formed}
Json ToJson(const EvalView& evaluation);
// {grp, purpose, task_id, samples: [{sample, state, reason, step, episode,
//  outcome, reward, advantage, worker}]}
Json ToJson(const GroupView& group);
// {process, name, elapsed_ms, deadline_ms, reported_us}
Json ToJson(const WaitView& wait);
// {environment, kind, calls, wait: {p50_us, p99_us, max_us}, run: the same}
Json ToJson(const CallView& calls);
// {at_us, process, kind, detail}
Json ToJson(const EventView& event);
// {episode, grp, sample, task_id, environment, outcome, answer, correct,
//  reward, weights_step, step, advantage, masked, turns: [{role, text}],
//  tokens: [{branch, position, id, text, sampled, logp_rollout, logp_train,
//  ratio, mask, version}]}: `weights_step` counts the steps behind the
// weights that sampled it, `step` is where it was trained.
Json ToJson(const TrajectoryView& trajectory, const EpisodeView& episode,
            const std::function<std::string(int32_t)>& text_of);

}  // namespace temper

#endif  // TOOLS_VIEW_JSON_VIEW_H_
