#include "tools/view/json_view.h"

#include <utility>

#include "nlohmann/json.hpp"

namespace temper {
namespace {

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

// A program that reads it should not have to know that "" means none.
Json TextOrNull(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

}  // namespace

Json ToJson(const StepView& step) {
  Json metrics = Json::object();
  for (const auto& [name, value] : step.metrics) metrics[name] = OrNull(value);
  return {{"step", step.step},
          {"seconds", step.seconds},
          {"metrics", std::move(metrics)}};
}

Json ToJson(const EvalView& evaluation) {
  return {{"step", evaluation.step},
          {"environment", evaluation.environment},
          {"episodes", evaluation.episodes},
          {"correct", evaluation.correct},
          {"well_formed", evaluation.well_formed}};
}

Json ToJson(const GroupView& group) {
  Json samples = Json::array();
  for (const SampleView& sample : group.samples) {
    samples.push_back({{"sample", sample.sample},
                       {"state", sample.state},
                       {"reason", TextOrNull(sample.reason)},
                       {"step", OrNull(sample.step)},
                       {"episode", OrNull(sample.episode)},
                       {"outcome", TextOrNull(sample.outcome)},
                       {"reward", OrNull(sample.reward)},
                       {"advantage", OrNull(sample.advantage)},
                       {"worker", TextOrNull(sample.worker)}});
  }
  return {{"grp", group.group},
          // As the views named_* of run.db call it.
          {"purpose", group.is_eval ? "EVAL" : "TRAIN"},
          {"task_id", group.task_id},
          {"samples", std::move(samples)}};
}

Json ToJson(const WaitView& wait) {
  return {{"process", wait.process},
          {"name", wait.name},
          {"elapsed_ms", wait.elapsed_ms},
          {"deadline_ms", wait.deadline_ms},
          {"reported_us", wait.reported_us}};
}

Json ToJson(const CallView& calls) {
  const auto times = [](const CallTimes& of) -> Json {
    return {
        {"p50_us", of.p50_us}, {"p99_us", of.p99_us}, {"max_us", of.max_us}};
  };
  return {{"environment", calls.environment},
          {"kind", calls.kind},
          {"calls", calls.calls},
          {"wait", times(calls.wait)},
          {"run", times(calls.run)}};
}

Json ToJson(const EventView& event) {
  return {{"at_us", event.at_us},
          {"process", event.process},
          {"kind", event.kind},
          {"detail", event.detail}};
}

Json ToJson(const TrajectoryView& trajectory, const EpisodeView& episode,
            const std::function<std::string(int32_t)>& text_of) {
  Json turns = Json::array();
  for (const TurnView& turn : episode.turns) {
    turns.push_back({{"role", turn.role}, {"text", turn.text}});
  }
  Json tokens = Json::array();
  for (const TokenView& token : trajectory.tokens) {
    const std::optional<double> ratio = token.Ratio();
    // M of the objective, where training looked at the token: 1 keeps it.
    const Json mask =
        ratio.has_value() ? Json(*trajectory.masked ? 0 : 1) : Json(nullptr);
    tokens.push_back({{"branch", token.branch},
                      {"position", token.position},
                      {"id", token.id},
                      // A view, and of one id alone: bytes that are no whole
                      // character by themselves are shown so.
                      {"text", text_of(token.id)},
                      {"sampled", token.sampled},
                      {"logp_rollout", OrNull(token.logp_rollout)},
                      {"logp_train", OrNull(token.logp_train)},
                      {"ratio", OrNull(ratio)},
                      {"mask", mask},
                      {"version", OrNull(token.version)}});
  }
  return {{"episode", trajectory.episode},
          {"grp", trajectory.group},
          {"sample", trajectory.sample},
          {"task_id", episode.task_id},
          {"environment", episode.environment},
          {"outcome", episode.outcome},
          {"answer", episode.answer},
          {"correct", episode.correct},
          {"reward", OrNull(episode.reward)},
          {"weights_step", episode.step},
          {"step", OrNull(trajectory.step)},
          {"advantage", OrNull(trajectory.advantage)},
          {"masked", OrNull(trajectory.masked)},
          {"turns", std::move(turns)},
          {"tokens", std::move(tokens)}};
}

}  // namespace temper
