// A run as run.db tells it: the rows of its tables, put together for whoever
// shows them (tools/view) or asks how far it is. The one place outside of the
// writers (run_db.h, ledger.h, episode_rows.h) that knows the tables, beside
// their schema (run_db_schema.h); token by token it is token_reader.h.
//
// Reads only; works on a live run and after a crash, on every version that
// RunDb::OpenReader takes, and leaves out what a resume undid. Numbers that
// were not measured are none, never 0.
//
// Every function is one transaction of its reader. Errors are SQLite's
// (learner/store/sqlite.h), or NotFound where a message says so. Thread-safe.

#ifndef LEARNER_STORE_RUN_READER_H_
#define LEARNER_STORE_RUN_READER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/store/run_db.h"
#include "proto/trajectory.pb.h"

namespace temper {

// One training step as run.db tells it.
struct StepView {
  int64_t step = 0;
  double seconds = 0;  // wall time of the step
  // By the names of DESIGN.md section 8; none: nothing was measured.
  std::map<std::string, std::optional<double>> metrics;

  // None, too, where there is no such metric.
  std::optional<double> Metric(const std::string& name) const;
};

// An evaluation of one environment at one step.
struct EvalView {
  int64_t step = 0;
  std::string environment;
  int64_t episodes = 0;
  int64_t correct = 0;
  int64_t well_formed = 0;
};

// What a process waits for, and how long it had when it said so.
struct WaitView {
  std::string process;
  std::string name;
  int64_t elapsed_ms = 0;
  int64_t deadline_ms = 0;  // 0: it has none, whoever is waited for has
  int64_t reported_us = 0;  // Unix time of the report
};

// Of calls, in microseconds: each is that of one of them, the least that so
// many do not exceed.
struct CallTimes {
  int64_t p50_us = 0;
  int64_t p99_us = 0;
  int64_t max_us = 0;
};

// The calls of one kind of one environment: how long they waited for a thread
// of their worker, and then ran.
struct CallView {
  std::string environment;
  std::string kind;  // EnvironmentCallKind, without its prefix
  int64_t calls = 0;
  CallTimes wait;
  CallTimes run;
};

// A task that got no reward.
struct FailedTaskView {
  int64_t id = 0;  // of its row in task_failure, ascending
  std::string task_id;
  std::string environment;
  std::string reason;
};

struct TurnView {
  std::string role;
  std::string text;
};

struct EpisodeView {
  int64_t step = 0;  // steps behind the weights that sampled it
  std::string task_id;
  std::string environment;
  std::string outcome;
  std::string answer;
  bool correct = false;
  std::optional<double> reward;
  std::vector<TurnView> turns;
};

// The surviving steps above `after`, ascending.
absl::StatusOr<std::vector<StepView>> ReadSteps(RunDb* db, int64_t after);

// The attempt that counts now. NotFound before the first.
struct AttemptView {
  int64_t attempt = 0;
  int64_t base_step = 0;  // that it goes on from
};
absl::StatusOr<AttemptView> ReadAttempt(RunDb* db);

// The step that a resume would go on from, if no checkpoint is damaged; 0
// before the first.
absl::StatusOr<int64_t> ReadCheckpointStep(RunDb* db);

// Every evaluation of every environment, by the weights that sampled it: over
// surviving weight versions, ascending in (step, environment). Episodes without
// a reward are left out.
absl::StatusOr<std::vector<EvalView>> ReadEvaluations(RunDb* db);

// One recorded episode. NotFound names the ids there are.
absl::StatusOr<EpisodeView> ReadEpisode(RunDb* db, int64_t episode);

// One held-out task before and after: of the first and the last evaluation, if
// possible a task that was answered wrong at first and right at last, with the
// most tool calls. Empty where there are no two evaluations with a task in
// common.
struct BeforeAfterEpisodes {
  int64_t before = 0;
  int64_t after = 0;
};
absl::StatusOr<std::optional<BeforeAfterEpisodes>> PickEpisodes(RunDb* db);

// A group: its task, and a line per sample.
struct SampleView {
  uint32_t sample = 0;
  std::string state;  // of the ledger
  std::string reason;
  std::optional<int64_t> step;     // reserved for, or trained in
  std::optional<int64_t> episode;  // that counts
  std::string outcome;             // "" without an episode
  std::optional<double> reward;
  std::optional<double> advantage;  // as trained with
  std::string worker;
};
struct GroupView {
  uint64_t group = 0;
  bool is_eval = false;
  std::string task_id;
  std::vector<SampleView> samples;
};
absl::StatusOr<GroupView> ReadGroup(RunDb* db, uint64_t group);

// Who waits for what, the longest first.
absl::StatusOr<std::vector<WaitView>> ReadWaits(RunDb* db);

// By environment and kind; of every episode that was recorded, whether a resume
// undid it or not. None of a run of before version 5.
absl::StatusOr<std::vector<CallView>> ReadCalls(RunDb* db);

// Workers that are connected to the learner of the present attempt; after a
// crash, those that were.
absl::StatusOr<int64_t> CountWorkers(RunDb* db);

struct EventView {
  int64_t at_us = 0;
  std::string process;
  std::string kind;
  std::string detail;
};
// The last `count`, oldest first.
absl::StatusOr<std::vector<EventView>> ReadEvents(RunDb* db, int64_t count);

// The tasks that got no reward, each once, by its first reason, whatever
// attempt it was of; none of a run of version 2.
absl::StatusOr<std::vector<FailedTaskView>> ReadFailedTasks(RunDb* db);
// Those of attempts after `attempt`, of rows after `after`: a task once an
// attempt, ascending.
absl::StatusOr<std::vector<FailedTaskView>> ReadNewFailedTasks(RunDb* db,
                                                               int64_t attempt,
                                                               int64_t after);

// Samples of the groups for `purpose` by ledger state: ("trained", 640), ...
// Those of an evaluation stay "received".
absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> CountStates(
    RunDb* db, Purpose purpose);

}  // namespace temper

#endif  // LEARNER_STORE_RUN_READER_H_
