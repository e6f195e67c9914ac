#include "tools/cmd_status.h"

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "learner/run_db.h"
#include "tools/cli.h"
#include "tools/config.h"
#include "tools/flags.h"
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

absl::Status PrintHead(RunDb* db) {
  ASSIGN_OR_RETURN(const RunInfo info, db->ReadRun());
  ASSIGN_OR_RETURN(const RunConfig config, ParseConfig(info.config, "run.db"));
  ASSIGN_OR_RETURN(const int64_t attempt, db->CurrentAttempt());
  ASSIGN_OR_RETURN(const std::vector<StepView> steps, ReadSteps(db, 0));
  const int64_t total = config.steps();
  printf("run %s, seed %llu, attempt %lld\n", info.name.c_str(),
         static_cast<unsigned long long>(info.seed),
         static_cast<long long>(attempt));
  if (steps.empty()) {
    printf("step 0/%lld\n", static_cast<long long>(total));
  } else {
    printf("%s", FormatStep(steps.back(), total, RemainingSeconds(steps, total))
                     .c_str());
  }
  return absl::OkStatus();
}

absl::Status Print(RunDb* db) {
  RETURN_IF_ERROR(PrintHead(db));
  ASSIGN_OR_RETURN(const auto states, CountStates(db));
  std::vector<std::string> counts;
  for (const auto& [state, count] : states) {
    counts.push_back(absl::StrCat(count, " ", state));
  }
  printf("samples: %s\n",
         counts.empty() ? "none" : absl::StrJoin(counts, ", ").c_str());
  ASSIGN_OR_RETURN(const auto waits, ReadWaits(db));
  printf("waits%s\n", waits.empty() ? ": none" : "");
  for (const WaitView& wait : waits) {
    printf("  %-12s %-28s %s of %s, reported %s\n", wait.process.c_str(),
           wait.name.c_str(),
           FormatDuration(static_cast<double>(wait.elapsed_ms) / 1e3).c_str(),
           FormatDuration(static_cast<double>(wait.deadline_ms) / 1e3).c_str(),
           Ago(wait.reported_us).c_str());
  }
  ASSIGN_OR_RETURN(const auto events, ReadEvents(db, kEventsShown));
  printf("events%s\n", events.empty() ? ": none" : "");
  for (const EventView& event : events) {
    printf("  %-12s %-18s %s, %s\n", event.process.c_str(), event.kind.c_str(),
           event.detail.c_str(), Ago(event.at_us).c_str());
  }
  return absl::OkStatus();
}

absl::Status Status(const std::string& run, const std::string& runs_dir) {
  ASSIGN_OR_RETURN(const std::string path, FindRunDb(run, runs_dir));
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenReader(path));
  return Print(db.get());
}

}  // namespace

int RunStatusVerb(int argc, char** argv) {
  std::string run;
  std::string runs_dir = "runs";
  Flags flags("status", "Shows where a run stands and who waits for what.");
  flags.Text("RUN", &run, "A run directory, or a name below --runs-dir.");
  flags.Require();
  flags.Text("--runs-dir", &runs_dir, "Where runs are; default \"runs\".");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Status(run, runs_dir);
  return status.ok() ? kExitDone : ReportError("status", status);
}

}  // namespace temper
