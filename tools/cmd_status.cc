#include "tools/cmd_status.h"

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "learner/run_db.h"
#include "nlohmann/json.hpp"
#include "tools/cli.h"
#include "tools/config.h"
#include "tools/flags.h"
#include "tools/json_output.h"
#include "tools/json_view.h"
#include "tools/progress.h"
#include "tools/run_view.h"

namespace temper {
namespace {

constexpr int64_t kEventsShown = 8;

std::string Ago(int64_t at_us) {
  const double seconds =
      static_cast<double>(SystemClock()->UnixMicros() - at_us) / 1e6;
  return absl::StrCat(FormatDuration(seconds > 0 ? seconds : 0), " ago");
}

struct StatusView {
  RunInfo info;
  int64_t attempt = 0;
  int64_t steps_total = 0;
  std::vector<StepView> steps;
  std::vector<std::pair<std::string, int64_t>> samples;  // by ledger state
  std::vector<WaitView> waits;
  std::vector<EventView> events;  // the last ones

  std::optional<double> eta_seconds() const {
    return RemainingSeconds(steps, steps_total);
  }
};

absl::StatusOr<StatusView> ReadStatus(RunDb* db) {
  StatusView view;
  ASSIGN_OR_RETURN(view.info, db->ReadRun());
  ASSIGN_OR_RETURN(const RunConfig config,
                   ParseConfig(view.info.config, "run.db"));
  view.steps_total = config.steps();
  ASSIGN_OR_RETURN(view.attempt, db->CurrentAttempt());
  ASSIGN_OR_RETURN(view.steps, ReadSteps(db, 0));
  ASSIGN_OR_RETURN(view.samples, CountStates(db));
  ASSIGN_OR_RETURN(view.waits, ReadWaits(db));
  ASSIGN_OR_RETURN(view.events, ReadEvents(db, kEventsShown));
  return view;
}

void PrintText(const StatusView& view) {
  printf("run %s, seed %llu, attempt %lld\n", view.info.name.c_str(),
         static_cast<unsigned long long>(view.info.seed),
         static_cast<long long>(view.attempt));
  const StepView last = view.steps.empty() ? StepView() : view.steps.back();
  printf("%s", FormatStep(last, view.steps_total, view.eta_seconds()).c_str());
  std::vector<std::string> counts;
  for (const auto& [state, count] : view.samples) {
    counts.push_back(absl::StrCat(count, " ", state));
  }
  printf("samples: %s\n",
         counts.empty() ? "none" : absl::StrJoin(counts, ", ").c_str());
  printf("waits%s\n", view.waits.empty() ? ": none" : "");
  const int64_t now_us = SystemClock()->UnixMicros();
  for (const WaitView& wait : view.waits) {
    printf("%s", FormatWait(wait, now_us).c_str());
  }
  printf("events%s\n", view.events.empty() ? ": none" : "");
  for (const EventView& event : view.events) {
    printf("  %-12s %-18s %s, %s\n", event.process.c_str(), event.kind.c_str(),
           event.detail.c_str(), Ago(event.at_us).c_str());
  }
}

Json ToJson(const StatusView& view) {
  Json samples = Json::object(), waits = Json::array(), events = Json::array();
  for (const auto& [state, count] : view.samples) samples[state] = count;
  for (const WaitView& wait : view.waits) waits.push_back(ToJson(wait));
  for (const EventView& event : view.events) events.push_back(ToJson(event));
  const std::optional<double> eta = view.eta_seconds();
  return {{"name", view.info.name},
          {"seed", view.info.seed},
          {"attempt", view.attempt},
          {"steps", view.steps_total},
          {"last_step",
           view.steps.empty() ? Json(nullptr) : ToJson(view.steps.back())},
          {"eta_seconds", eta ? Json(*eta) : Json(nullptr)},
          {"samples", std::move(samples)},
          {"waits", std::move(waits)},
          {"events", std::move(events)}};
}

absl::Status Status(const std::string& run, const std::string& runs_dir,
                    bool json) {
  ASSIGN_OR_RETURN(const std::string path, FindRunDb(run, runs_dir));
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenReader(path));
  ASSIGN_OR_RETURN(const StatusView view, ReadStatus(db.get()));
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
