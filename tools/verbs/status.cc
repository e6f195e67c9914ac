#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_db.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/config/config.h"
#include "tools/verbs/verbs.h"
#include "tools/view/json_view.h"
#include "tools/view/progress.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

constexpr int64_t kEventsShown = 8;

std::string Ago(int64_t at_us) {
  const double seconds =
      static_cast<double>(SystemClock()->UnixMicros() - at_us) / 1e6;
  // The clock of who wrote it may be ahead of ours.
  return absl::StrCat(FormatDuration(seconds > 0 ? seconds : 0), " ago");
}

struct StatusView {
  RunInfo info;
  std::string state;  // running | finished | stopped
  int64_t attempt = 0;
  int64_t steps_total = 0;
  std::vector<StepView> steps;
  int64_t workers = 0;  // connected
  // By ledger state: of the groups that train, and of evaluations.
  std::vector<std::pair<std::string, int64_t>> samples;
  std::vector<std::pair<std::string, int64_t>> eval_samples;
  std::vector<WaitView> waits;
  std::vector<EventView> events;  // the last ones

  std::optional<double> eta_seconds() const {
    // Nobody is working on what is left.
    if (state == "stopped") return std::nullopt;
    return RemainingSeconds(steps, steps_total);
  }
};

std::string Counts(const std::vector<std::pair<std::string, int64_t>>& states) {
  std::vector<std::string> counts;
  for (const auto& [state, count] : states) {
    counts.push_back(absl::StrCat(count, " ", state));
  }
  return counts.empty() ? "none" : absl::StrJoin(counts, ", ");
}

absl::StatusOr<StatusView> ReadStatus(const std::string& path) {
  ASSIGN_OR_RETURN(const auto reader, OpenRunDb(path));
  RunDb* const db = reader.get();
  StatusView view;
  ASSIGN_OR_RETURN(view.info, db->ReadRun());
  ASSIGN_OR_RETURN(const RunConfig config,
                   ParseConfig(view.info.config, "run.db"));
  view.steps_total = config.steps();
  ASSIGN_OR_RETURN(view.attempt, db->CurrentAttempt());
  ASSIGN_OR_RETURN(view.steps, ReadSteps(db, 0));
  // Of a run that nobody writes, only its records say whether it came to its
  // end.
  view.state = IsBeingWritten(path)             ? "running"
               : IsFinished(config, view.steps) ? "finished"
                                                : "stopped";
  // A dead learner's last count of them would be believed.
  if (view.state == "running") {
    ASSIGN_OR_RETURN(view.workers, CountWorkers(db));
  }
  ASSIGN_OR_RETURN(view.samples, CountStates(db, PURPOSE_TRAIN));
  ASSIGN_OR_RETURN(view.eval_samples, CountStates(db, PURPOSE_EVAL));
  ASSIGN_OR_RETURN(view.waits, ReadWaits(db));
  ASSIGN_OR_RETURN(view.events, ReadEvents(db, kEventsShown));
  return view;
}

void PrintText(const StatusView& view) {
  PrintOut("run %s, seed %d, attempt %d, %s\n", view.info.name, view.info.seed,
           view.attempt, view.state);
  // Before the first step there is a line too, of step 0: nothing has gone
  // wrong yet.
  const StepView last = view.steps.empty() ? StepView() : view.steps.back();
  PrintOut("%s", Lines{FormatStep(last, view.steps_total, view.eta_seconds())});
  PrintOut("samples: %s; of evaluations: %s\n", Counts(view.samples),
           Counts(view.eval_samples));
  if (view.state == "running") {
    PrintOut("workers connected: %d\n", view.workers);
  }
  PrintOut("waits%s\n", view.waits.empty() ? ": none" : "");
  // One instant for all, or waits that began together would look apart.
  const int64_t now_us = SystemClock()->UnixMicros();
  for (const WaitView& wait : view.waits) {
    PrintOut("%s", Lines{FormatWait(wait, now_us)});
  }
  PrintOut("events%s\n", view.events.empty() ? ": none" : "");
  for (const EventView& event : view.events) {
    const std::string detail =
        event.detail.empty() ? "" : absl::StrCat(event.detail, ", ");
    PrintOut("  %-12s %-18s %s%s\n", event.process, event.kind, detail,
             Ago(event.at_us));
  }
}

Json ToJson(const StatusView& view) {
  Json samples = Json::object(), waits = Json::array(), events = Json::array();
  Json eval_samples = Json::object();
  for (const auto& [state, count] : view.samples) samples[state] = count;
  for (const auto& [state, count] : view.eval_samples) {
    eval_samples[state] = count;
  }
  for (const WaitView& wait : view.waits) waits.push_back(ToJson(wait));
  for (const EventView& event : view.events) events.push_back(ToJson(event));
  const std::optional<double> eta = view.eta_seconds();
  return {{"name", view.info.name},
          {"seed", view.info.seed},
          {"attempt", view.attempt},
          {"state", view.state},
          {"steps", view.steps_total},
          {"workers", view.workers},
          {"last_step",
           view.steps.empty() ? Json(nullptr) : ToJson(view.steps.back())},
          {"eta_seconds", eta ? Json(*eta) : Json(nullptr)},
          {"samples", std::move(samples)},
          {"eval_samples", std::move(eval_samples)},
          {"waits", std::move(waits)},
          {"events", std::move(events)}};
}

absl::Status Status(const std::string& run, const std::string& runs_dir,
                    bool json) {
  ASSIGN_OR_RETURN(const std::string path, FindRunDb(run, runs_dir));
  ASSIGN_OR_RETURN(const StatusView view, ReadStatus(path));
  if (json) {
    PrintJson(ToJson(view));
  } else {
    PrintText(view);
  }
  return absl::OkStatus();
}

}  // namespace

int RunStatusVerb(int argc, char** argv) {
  std::string run;
  std::string runs_dir = "runs";
  bool json = false;
  Flags flags("status", "Shows where a run stands and who waits for what.");
  flags.Text("RUN", &run, "A run directory, or a name below --runs-dir.");
  flags.Require();
  flags.Text("--runs-dir", &runs_dir, "Where runs are; default \"runs\".");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Status(run, runs_dir, json);
  return status.ok() ? kExitDone : ReportError("status", status);
}

}  // namespace temper
