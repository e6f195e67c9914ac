// A run as run.db tells it: what `temper train` prints, and `temper status` and
// `temper inspect` show. Reads only; works on a live run and after a crash, and
// leaves out what a resume undid.
//
// Every function is one transaction of its reader. Errors are SQLite's
// (learner/store/sqlite.h), or NotFound where a message says so. Thread-safe.

#ifndef TOOLS_VIEW_RUN_VIEW_H_
#define TOOLS_VIEW_RUN_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/store/run_db.h"
#include "proto/config.pb.h"
#include "proto/trajectory.pb.h"
#include "tools/view/progress.h"

namespace temper {

// The run.db of a run given as a user does: a run directory, run.db itself, or
// the name of a run under `runs_dir`. NotFound says where it was looked for,
// InvalidArgument that another file was named.
absl::StatusOr<std::string> FindRunDb(const std::string& run,
                                      const std::string& runs_dir);

// As RunDb::OpenReader of what FindRunDb found; what is no run.db of ours is
// InvalidArgument and says what to name.
absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path);

// Whether a process of this machine, the learner, has the run.db at `path` open
// for writing.
bool IsBeingWritten(const std::string& path);

// The surviving steps above `after`, ascending.
absl::StatusOr<std::vector<StepView>> ReadSteps(RunDb* db, int64_t after);

// Whether `steps`, which end with the last, are all that `config` asks for, and
// the evaluation after them is whole.
bool IsFinished(const RunConfig& config, const std::vector<StepView>& steps);

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

#endif  // TOOLS_VIEW_RUN_VIEW_H_
