#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/shown_text.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/tokenizer.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/store/run_db.h"
#include "learner/store/run_model.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/config/config.h"
#include "tools/verbs/verbs.h"
#include "tools/view/json_view.h"
#include "tools/view/progress.h"
#include "tools/view/run_view.h"
#include "tools/view/token_view.h"

namespace temper {
namespace {

constexpr int64_t kIdMax = INT64_MAX;
constexpr char kNameTheRuns[] = "name the directory that holds run directories";

// What every sub-verb but `runs` begins with.
struct RunFlags {
  std::string run;
  // The default of key runs_dir, which no configuration is here to say.
  std::string runs_dir = "runs";
  bool json = false;

  void AddTo(Flags* flags) {
    flags->Text("RUN", &run, "A run directory, or a name below --runs-dir.");
    flags->Require();
    flags->Text("--runs-dir", &runs_dir, "Where runs are; default \"runs\".");
    AddJsonFlag(flags, &json);
  }

  absl::StatusOr<std::unique_ptr<RunDb>> Open() const {
    ASSIGN_OR_RETURN(const std::string path, FindRunDb(run, runs_dir));
    return OpenRunDb(path);
  }
};

int Done(const char* verb, const absl::Status& status) {
  // Named as it was called: `inspect group`, not `group`.
  return status.ok() ? kExitDone
                     : ReportError(absl::StrCat("inspect ", verb), status);
}

struct RunRow {
  std::string name;
  StepView last;  // step 0 before the first
};

// The last step that a run recorded.
absl::StatusOr<StepView> ReadLastStep(const std::string& path) {
  ASSIGN_OR_RETURN(const auto db, OpenRunDb(path));
  ASSIGN_OR_RETURN(const std::vector<StepView> steps, ReadSteps(db.get(), 0));
  return steps.empty() ? StepView() : steps.back();
}

// The runs of a directory; one that cannot be read is named on stderr.
absl::StatusOr<std::vector<RunRow>> ReadRuns(const std::string& runs_dir) {
  const auto names = ListDirectory(runs_dir);
  RETURN_IF_ERROR(IfUnusable(names.status(), kNameTheRuns));
  std::vector<RunRow> runs;
  for (const std::string& name : *names) {
    const auto path =
        FindRunDb(absl::StrCat(runs_dir, "/", name, "/run.db"), runs_dir);
    if (!path.ok()) continue;
    const absl::StatusOr<StepView> last = ReadLastStep(*path);
    if (!last.ok()) {
      // One damaged run is no reason not to list the others.
      PrintErr("%s: %s\n", name, last.status().message());
      continue;
    }
    runs.push_back({name, *last});
  }
  // A likely slip: the directory of one run for that of all.
  if (runs.empty() && FindRunDb(runs_dir + "/run.db", runs_dir).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(runs_dir, " is a run; ", kNameTheRuns));
  }
  return runs;
}

absl::Status PrintRuns(const std::string& runs_dir, bool json) {
  ASSIGN_OR_RETURN(const std::vector<RunRow> runs, ReadRuns(runs_dir));
  if (json) {
    Json rows = Json::array();
    for (const RunRow& run : runs) {
      rows.push_back({{"name", run.name}, {"last_step", ToJson(run.last)}});
    }
    PrintJson({{"runs", std::move(rows)}});
    return absl::OkStatus();
  }
  for (const RunRow& run : runs) {
    const std::optional<double> reward = run.last.Metric("reward/mean");
    PrintOut("%-32s step %4d  reward %s\n", run.name, run.last.step,
             reward ? absl::StrFormat("%.3f", *reward).c_str() : "-");
  }
  return absl::OkStatus();
}

int Runs(int argc, char** argv) {
  std::string runs_dir = "runs";
  bool json = false;
  Flags flags("inspect runs",
              "Lists the runs of a directory: name, last step, its reward.");
  flags.Text("--runs-dir", &runs_dir, "Where runs are; default \"runs\".");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Done("runs", PrintRuns(runs_dir, json));
}

absl::Status PrintSteps(const RunFlags& run) {
  ASSIGN_OR_RETURN(const auto db, run.Open());
  ASSIGN_OR_RETURN(const RunInfo info, db->ReadRun());
  // Of run.db and not of the file beside it: what the run ran with, whatever
  // was edited since.
  ASSIGN_OR_RETURN(const RunConfig config, ParseConfig(info.config, "run.db"));
  ASSIGN_OR_RETURN(const std::vector<StepView> steps, ReadSteps(db.get(), 0));
  ASSIGN_OR_RETURN(const std::vector<EvalView> evaluations,
                   ReadEvaluations(db.get()));
  if (run.json) {
    Json rows = Json::array(), eval_rows = Json::array();
    for (const StepView& step : steps) rows.push_back(ToJson(step));
    for (const EvalView& view : evaluations) eval_rows.push_back(ToJson(view));
    PrintJson({{"name", info.name},
               {"steps", std::move(rows)},
               {"evaluations", std::move(eval_rows)}});
    return absl::OkStatus();
  }
  // The time left as it was estimated then.
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::vector<StepView> so_far(
        steps.begin(), steps.begin() + static_cast<int64_t>(i) + 1);
    PrintOut("%s", Lines{FormatStep(steps[i], config.steps(),
                                    RemainingSeconds(so_far, config.steps()))});
  }
  PrintOut("%s", Lines{DrawRewardCurve(steps, 60, 10)});
  PrintOut("%s", Lines{FormatBeforeAfter(evaluations)});
  return absl::OkStatus();
}

int Steps(int argc, char** argv) {
  RunFlags run;
  Flags flags("inspect steps",
              "Prints a run's steps, its reward curve and its evaluations; "
              "with --json every metric of every step.");
  run.AddTo(&flags);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Done("steps", PrintSteps(run));
}

absl::Status PrintGroup(const RunFlags& run, uint64_t number) {
  ASSIGN_OR_RETURN(const auto db, run.Open());
  ASSIGN_OR_RETURN(const GroupView group, ReadGroup(db.get(), number));
  if (run.json) {
    PrintJson(ToJson(group));
    return absl::OkStatus();
  }
  PrintOut("group %d, task %s%s\n", group.group, group.task_id,
           group.is_eval ? ", evaluation" : "");
  PrintOut("%6s  %-9s %5s %8s  %-12s %8s %10s  %s\n", "sample", "state", "step",
           "episode", "outcome", "reward", "advantage", "worker");
  for (const SampleView& sample : group.samples) {
    // What is not there yet is a dash: 0 would be a value.
    PrintOut("%6d  %-9s %5s %8s  %-12s %8s %10s  %s %s\n", sample.sample,
             sample.state,
             sample.step ? absl::StrCat(*sample.step).c_str() : "-",
             sample.episode ? absl::StrCat(*sample.episode).c_str() : "-",
             sample.outcome,
             sample.reward ? absl::StrCat(*sample.reward).c_str() : "-",
             sample.advantage ? absl::StrCat(*sample.advantage).c_str() : "-",
             sample.worker, sample.reason);
  }
  return absl::OkStatus();
}

int Group(int argc, char** argv) {
  RunFlags run;
  int64_t number = 0;
  Flags flags("inspect group",
              "Prints a group's samples, rewards, advantages.");
  run.AddTo(&flags);
  flags.Number("GROUP", &number, 1, kIdMax,
               "The group's number, counted from 1 in the order of issue.");
  flags.Require();
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Done("group", PrintGroup(run, static_cast<uint64_t>(number)));
}

absl::Status PrintTrajectory(const RunFlags& run, int64_t episode) {
  ASSIGN_OR_RETURN(const auto db, run.Open());
  ASSIGN_OR_RETURN(const RunInfo info, db->ReadRun());
  ASSIGN_OR_RETURN(const RunConfig config, ParseConfig(info.config, "run.db"));
  ASSIGN_OR_RETURN(const TrajectoryView view,
                   ReadTrajectory(db.get(), episode));
  ASSIGN_OR_RETURN(const EpisodeView story, ReadEpisode(db.get(), episode));
  ASSIGN_OR_RETURN(const std::string path, FindRunDb(run.run, run.runs_dir));
  // The run's own copy: the base model may have gone, or have another by now.
  const auto tokenizer = LoadTokenizer(absl::StrCat(
      RunModelDir(ParentOf(path), config.model()), "/tokenizer.json"));
  // The record is the tokens: without their text it can still be read.
  if (!tokenizer.ok()) {
    PrintErr("tokens are shown without text: %s\n",
             tokenizer.status().message());
  }
  const auto text_of = [&](int32_t id) -> std::string {
    const std::string* bytes =
        tokenizer.ok() ? (*tokenizer)->TokenBytes(id) : nullptr;
    // A token may be part of a character, or what a terminal obeys.
    return bytes == nullptr ? "" : ShownLine(*bytes);
  };
  if (run.json) {
    PrintJson(ToJson(view, story, text_of));
    return absl::OkStatus();
  }
  PrintOut("%s", Lines{FormatEpisode("episode", story, /*chars_max=*/2000)});
  PrintOut("%s", Lines{FormatTrajectory(view, text_of)});
  return absl::OkStatus();
}

int ShowTrajectory(int argc, char** argv) {
  RunFlags run;
  int64_t episode = 0;
  Flags flags("inspect trajectory",
              "Prints an episode token by token: the sampler's and the "
              "learner's log-probability, ratio, mask and weight version.");
  run.AddTo(&flags);
  flags.Number("EPISODE", &episode, 1, kIdMax,
               "The episode's number; `inspect group` shows them.");
  flags.Require();
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Done("trajectory", PrintTrajectory(run, episode));
}

absl::Status PrintWaits(const RunFlags& run) {
  ASSIGN_OR_RETURN(const auto db, run.Open());
  ASSIGN_OR_RETURN(const std::vector<WaitView> waits, ReadWaits(db.get()));
  ASSIGN_OR_RETURN(const std::vector<CallView> calls, ReadCalls(db.get()));
  if (run.json) {
    Json wait_rows = Json::array(), call_rows = Json::array();
    for (const WaitView& wait : waits) wait_rows.push_back(ToJson(wait));
    for (const CallView& view : calls) call_rows.push_back(ToJson(view));
    PrintJson(
        {{"waits", std::move(wait_rows)}, {"calls", std::move(call_rows)}});
    return absl::OkStatus();
  }
  PrintOut("waits%s\n", waits.empty() ? ": none" : "");
  const int64_t now_us = SystemClock()->UnixMicros();
  for (const WaitView& wait : waits) {
    PrintOut("%s", Lines{FormatWait(wait, now_us)});
  }
  PrintOut("calls of environments%s\n", calls.empty() ? ": none" : "");
  PrintOut("%s", Lines{FormatCalls(calls)});
  return absl::OkStatus();
}

int Waits(int argc, char** argv) {
  RunFlags run;
  Flags flags("inspect waits",
              "Prints who waits for what, and how long the calls of each "
              "environment waited for a thread and ran.");
  run.AddTo(&flags);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Done("waits", PrintWaits(run));
}

}  // namespace

int RunInspectVerb(int argc, char** argv) {
  return RunVerb("inspect",
                 {{"runs", "list the runs of a directory", Runs},
                  {"steps", "a run's steps and reward curve", Steps},
                  {"group", "a group's samples, rewards, advantages", Group},
                  {"trajectory", "an episode, token by token", ShowTrajectory},
                  {"waits", "waits, and the times of environments", Waits}},
                 argc, argv);
}

}  // namespace temper
