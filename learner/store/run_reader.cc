#include "learner/store/run_reader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/event_kind.h"
#include "learner/store/sqlite.h"
#include "proto/task.pb.h"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

absl::StatusOr<std::vector<SqlRow>> QueryOnce(RunDb* db, const char* sql,
                                              const SqlRow& parameters) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  return transaction->Query(sql, parameters);
}

std::optional<double> Real(const SqlValue& value) {
  if (value.is_null()) return std::nullopt;
  return value.AsDouble();
}

std::optional<int64_t> Integer(const SqlValue& value) {
  if (value.is_null()) return std::nullopt;
  return value.AsInt();
}

// A file that its learner is yet to bring to the present version may lack it;
// RunDb::version is that of its opening.
absl::StatusOr<bool> HasTable(Transaction* transaction, const char* name) {
  ASSIGN_OR_RETURN(const int64_t tables,
                   transaction->QueryInt("SELECT count(*) FROM sqlite_schema "
                                         "WHERE name = ?",
                                         {name}, 0));
  return tables > 0;
}

// `sql` gives the fields of FailedTaskView.
absl::StatusOr<std::vector<FailedTaskView>> QueryFailures(
    RunDb* db, const char* sql, const SqlRow& parameters) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(const bool known,
                   HasTable(transaction.get(), "task_failure"));
  std::vector<FailedTaskView> views;
  if (!known) return views;
  ASSIGN_OR_RETURN(const auto rows, transaction->Query(sql, parameters));
  for (const SqlRow& row : rows) {
    views.push_back({row[0].AsInt(), row[1].AsString(), row[2].AsString(),
                     row[3].AsString()});
  }
  return views;
}

// Evaluated episodes that count, with the steps behind the weights that
// sampled their first token.
// By version and not by time: a worker may deliver an evaluation's last episode
// after the next step has begun.
constexpr char kEvaluated[] =
    "WITH span AS (SELECT episode, min(version) AS version FROM version_span "
    "GROUP BY episode), evaluated AS (SELECT e.id, e.task_id, e.environment, "
    "e.outcome, e.correct, w.step AS step FROM lineage_episode e "
    "JOIN span s ON s.episode = e.id "
    "JOIN lineage_weight_version w ON w.version = s.version "
    "WHERE e.purpose = ? AND e.reward IS NOT NULL) ";

}  // namespace

std::optional<double> StepView::Metric(const std::string& name) const {
  const auto it = metrics.find(name);
  return it == metrics.end() ? std::nullopt : it->second;
}

absl::StatusOr<std::vector<StepView>> ReadSteps(RunDb* db, int64_t after) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(const auto steps,
                   transaction->Query("SELECT step, started_us, finished_us "
                                      "FROM lineage_step WHERE step > ? "
                                      "ORDER BY step",
                                      {after}));
  std::map<int64_t, StepView> views;
  for (const SqlRow& row : steps) {
    StepView& view = views[row[0].AsInt()];
    view.step = row[0].AsInt();
    view.seconds = static_cast<double>(row[2].AsInt() - row[1].AsInt()) / 1e6;
  }
  ASSIGN_OR_RETURN(const auto metrics,
                   transaction->Query("SELECT step, name, value "
                                      "FROM lineage_metric WHERE step > ?",
                                      {after}));
  for (const SqlRow& row : metrics) {
    const auto it = views.find(row[0].AsInt());
    // Step 0 has metrics, of the first evaluation, and no row.
    if (it == views.end()) continue;
    it->second.metrics[row[1].AsString()] = Real(row[2]);
  }
  std::vector<StepView> result;
  for (auto& [step, view] : views) {
    // Of the monotonic clock; the row's times are of the wall's, which may
    // jump.
    view.seconds = view.Metric("time/step").value_or(view.seconds);
    result.push_back(std::move(view));
  }
  return result;
}

absl::StatusOr<AttemptView> ReadAttempt(RunDb* db) {
  ASSIGN_OR_RETURN(const auto rows,
                   QueryOnce(db,
                             "SELECT attempt, base_step FROM attempt "
                             "ORDER BY attempt DESC LIMIT 1",
                             {}));
  if (rows.empty()) return absl::NotFoundError("the run has no attempt yet");
  return AttemptView{rows[0][0].AsInt(), rows[0][1].AsInt()};
}

absl::StatusOr<int64_t> ReadCheckpointStep(RunDb* db) {
  ASSIGN_OR_RETURN(
      const auto rows,
      QueryOnce(db,
                // What the views lineage_* say of their tables; checkpoint has
                // none, and a file of version 2 can be given none.
                "SELECT coalesce(max(step), 0) FROM checkpoint c "
                "WHERE NOT EXISTS (SELECT 1 FROM attempt a "
                "WHERE a.attempt > c.attempt AND a.base_step < c.step)",
                {}));
  return rows[0][0].AsInt();
}

absl::StatusOr<std::vector<EvalView>> ReadEvaluations(RunDb* db) {
  static const std::string* sql = new std::string(
      absl::StrCat(kEvaluated,
                   "SELECT step, environment, outcome, count(*), sum(correct) "
                   "FROM evaluated GROUP BY step, environment, outcome "
                   "ORDER BY step, environment"));
  ASSIGN_OR_RETURN(const auto rows,
                   QueryOnce(db, sql->c_str(), {int{PURPOSE_EVAL}}));
  std::vector<EvalView> views;
  for (const SqlRow& row : rows) {
    const int64_t step = row[0].AsInt();
    const std::string& environment = row[1].AsString();
    // The rows are a sum each of (step, environment, outcome), in that order.
    if (views.empty() || views.back().step != step ||
        views.back().environment != environment) {
      views.push_back({step, environment, 0, 0, 0});
    }
    EvalView& view = views.back();
    view.episodes += row[3].AsInt();
    view.correct += row[4].AsInt();
    if (IsWellFormed(static_cast<Outcome>(row[2].AsInt()))) {
      view.well_formed += row[3].AsInt();
    }
  }
  return views;
}

absl::StatusOr<EpisodeView> ReadEpisode(RunDb* db, int64_t episode) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query(
          "SELECT task_id, environment, outcome, answer, correct, reward, "
          "(SELECT w.step FROM version_span s JOIN weight_version w "
          "ON w.version = s.version WHERE s.episode = e.id "
          "ORDER BY s.version LIMIT 1) FROM episode e WHERE id = ?",
          {episode}));
  if (rows.empty()) {
    // The likeliest mistake is a number of another run.
    ASSIGN_OR_RETURN(const int64_t last,
                     transaction->QueryInt("SELECT max(id) FROM episode", {},
                                           /*fallback=*/0));
    return absl::NotFoundError(
        absl::StrCat("no episode ", episode, "; there are 1 to ", last));
  }
  EpisodeView view;
  const SqlRow& row = rows[0];
  view.task_id = row[0].AsString();
  view.environment = row[1].AsString();
  view.outcome = OutcomeName(static_cast<Outcome>(row[2].AsInt()));
  view.answer = row[3].AsString();
  view.correct = row[4].AsInt() != 0;
  view.reward = Real(row[5]);
  view.step = row[6].AsInt();
  ASSIGN_OR_RETURN(const auto turns,
                   transaction->Query("SELECT role, text FROM turn "
                                      "WHERE episode = ? ORDER BY turn",
                                      {episode}));
  for (const SqlRow& turn : turns) {
    view.turns.push_back({turn[0].AsString(), turn[1].AsString()});
  }
  return view;
}

absl::StatusOr<std::optional<BeforeAfterEpisodes>> PickEpisodes(RunDb* db) {
  static const std::string* sql = new std::string(absl::StrCat(
      kEvaluated,
      "SELECT b.id, a.id FROM evaluated b JOIN evaluated a USING(task_id) "
      "WHERE b.step = (SELECT min(step) FROM evaluated) "
      "AND a.step = (SELECT max(step) FROM evaluated) AND a.step > b.step "
      "ORDER BY a.correct - b.correct DESC, a.correct DESC, "
      "(SELECT count(*) FROM tool_call t WHERE t.episode = a.id) DESC, "
      "b.id, a.id LIMIT 1"));
  ASSIGN_OR_RETURN(const auto rows,
                   QueryOnce(db, sql->c_str(), {int{PURPOSE_EVAL}}));
  if (rows.empty()) return std::optional<BeforeAfterEpisodes>();
  return std::optional<BeforeAfterEpisodes>(
      BeforeAfterEpisodes{rows[0][0].AsInt(), rows[0][1].AsInt()});
}

absl::StatusOr<GroupView> ReadGroup(RunDb* db, uint64_t group) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const auto groups,
      transaction->Query("SELECT purpose, task_id FROM grp WHERE grp = ?",
                         {group}));
  if (groups.empty()) {
    ASSIGN_OR_RETURN(
        const int64_t last,
        transaction->QueryInt("SELECT max(grp) FROM grp WHERE purpose = ?",
                              {int{PURPOSE_TRAIN}}, /*fallback=*/0));
    ASSIGN_OR_RETURN(
        const int64_t first_eval,
        transaction->QueryInt("SELECT min(grp) FROM grp WHERE purpose = ?",
                              {int{PURPOSE_EVAL}}, /*fallback=*/0));
    return absl::NotFoundError(absl::StrCat(
        "no group ", group, "; those that train are 1 to ", last,
        first_eval > 0 ? absl::StrCat(", evaluations begin at ", first_eval)
                       : ""));
  }
  GroupView view;
  view.group = group;
  view.is_eval = groups[0][0].AsInt() == PURPOSE_EVAL;
  view.task_id = groups[0][1].AsString();
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query(
          "SELECT l.sample, l.state, l.reason, l.step, l.episode, e.outcome, "
          "e.reward, e.worker, a.advantage FROM ledger l LEFT JOIN episode e "
          "ON e.id = l.episode LEFT JOIN (SELECT r.sample, r.advantage "
          "FROM train_record r JOIN lineage_trained t "
          "USING(attempt, step, grp, sample) WHERE r.grp = ?) a "
          "ON a.sample = l.sample WHERE l.grp = ? ORDER BY l.sample",
          {group, group}));
  for (const SqlRow& row : rows) {
    SampleView sample;
    sample.sample = static_cast<uint32_t>(row[0].AsInt());
    sample.state = row[1].AsString();
    sample.reason = row[2].AsString();
    sample.step = Integer(row[3]);
    sample.episode = Integer(row[4]);
    if (sample.episode) {
      sample.outcome = OutcomeName(static_cast<Outcome>(row[5].AsInt()));
    }
    sample.reward = Real(row[6]);
    sample.worker = row[7].AsString();
    sample.advantage = Real(row[8]);
    view.samples.push_back(std::move(sample));
  }
  return view;
}

absl::StatusOr<std::vector<WaitView>> ReadWaits(RunDb* db) {
  ASSIGN_OR_RETURN(
      const auto rows,
      QueryOnce(db,
                "SELECT process, name, elapsed_ms, deadline_ms, reported_us "
                "FROM wait ORDER BY elapsed_ms DESC, process, name",
                {}));
  std::vector<WaitView> views;
  for (const SqlRow& row : rows) {
    views.push_back({row[0].AsString(), row[1].AsString(), row[2].AsInt(),
                     row[3].AsInt(), row[4].AsInt()});
  }
  return views;
}

absl::StatusOr<std::vector<CallView>> ReadCalls(RunDb* db) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  ASSIGN_OR_RETURN(const bool known,
                   HasTable(transaction.get(), "environment_call"));
  std::vector<CallView> views;
  if (!known) return views;
  // Nearest ranks: the least value that at least so many percent do not exceed.
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query(
          "WITH ranked AS (SELECT environment, kind, wait_us, run_us, "
          "row_number() OVER (PARTITION BY environment, kind "
          "ORDER BY wait_us) AS wait_rank, "
          "row_number() OVER (PARTITION BY environment, kind "
          "ORDER BY run_us) AS run_rank, "
          "count(*) OVER (PARTITION BY environment, kind) AS n "
          "FROM environment_call c JOIN episode e ON e.id = c.episode) "
          "SELECT environment, (SELECT name FROM environment_call_names "
          "WHERE value = kind), n, "
          "max(CASE wait_rank WHEN (n * 50 + 99) / 100 THEN wait_us END), "
          "max(CASE wait_rank WHEN (n * 99 + 99) / 100 THEN wait_us END), "
          "max(wait_us), "
          "max(CASE run_rank WHEN (n * 50 + 99) / 100 THEN run_us END), "
          "max(CASE run_rank WHEN (n * 99 + 99) / 100 THEN run_us END), "
          "max(run_us) FROM ranked GROUP BY environment, kind ORDER BY 1, kind",
          {}));
  for (const SqlRow& row : rows) {
    views.push_back({row[0].AsString(),
                     row[1].AsString(),
                     row[2].AsInt(),
                     {row[3].AsInt(), row[4].AsInt(), row[5].AsInt()},
                     {row[6].AsInt(), row[7].AsInt(), row[8].AsInt()}});
  }
  return views;
}

absl::StatusOr<int64_t> CountWorkers(RunDb* db) {
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  return transaction->QueryInt(
      "SELECT coalesce(sum(CASE kind WHEN ? THEN 1 WHEN ? THEN -1 ELSE 0 END), "
      "0) FROM event WHERE attempt = (SELECT max(attempt) FROM attempt)",
      {NameOf(EventKind::kWorkerJoined), NameOf(EventKind::kWorkerLeft)}, 0);
}

absl::StatusOr<std::vector<EventView>> ReadEvents(RunDb* db, int64_t count) {
  ASSIGN_OR_RETURN(const auto rows,
                   QueryOnce(db,
                             "SELECT at_us, process, kind, detail FROM event "
                             "ORDER BY id DESC LIMIT ?",
                             {count}));
  std::vector<EventView> views;
  for (const SqlRow& row : rows) {
    views.push_back({row[0].AsInt(), row[1].AsString(), row[2].AsString(),
                     row[3].AsString()});
  }
  // Chosen from the newest, told from the oldest.
  std::reverse(views.begin(), views.end());
  return views;
}

absl::StatusOr<std::vector<FailedTaskView>> ReadFailedTasks(RunDb* db) {
  return QueryFailures(
      db,
      "SELECT min(id), task_id, environment, reason FROM task_failure "
      "GROUP BY task_id ORDER BY 1",
      {});
}

absl::StatusOr<std::vector<FailedTaskView>> ReadNewFailedTasks(RunDb* db,
                                                               int64_t attempt,
                                                               int64_t after) {
  return QueryFailures(db,
                       "SELECT id, task_id, environment, reason "
                       "FROM task_failure WHERE attempt > ? AND id > ? "
                       "ORDER BY id",
                       {attempt, after});
}

absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> CountStates(
    RunDb* db, Purpose purpose) {
  ASSIGN_OR_RETURN(const auto rows,
                   QueryOnce(db,
                             "SELECT l.state, count(*) FROM ledger l "
                             "JOIN grp g ON g.grp = l.grp WHERE g.purpose = ? "
                             "GROUP BY l.state ORDER BY l.state",
                             {int{purpose}}));
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const SqlRow& row : rows) {
    counts.emplace_back(row[0].AsString(), row[1].AsInt());
  }
  return counts;
}

}  // namespace temper
