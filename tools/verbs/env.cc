#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/registry.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "environments/self_test.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/base/clock.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/run/task_check.h"
#include "tools/verbs/env_verbs.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr int64_t kProgressUs = 2'000'000;

int List(int argc, char** argv) {
  bool json = false;
  Flags flags("env list", "Lists the environments that tasks may name.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  Json rows = Json::array();
  for (const EnvironmentFacts* facts : RegisteredEnvironments()) {
    const char* const served_in =
        facts->served_in == ServedIn::kHost ? "env-host" : "worker";
    rows.push_back({{"environment", facts->name},
                    {"description", facts->description},
                    {"deterministic", facts->deterministic},
                    {"served_in", served_in},
                    {"needs_sandbox", facts->needs_sandbox}});
    if (json) continue;
    PrintOut("%-14s %-13s %-10s %-8s %s\n", facts->name,
             facts->deterministic ? "deterministic" : "", served_in,
             facts->needs_sandbox ? "sandbox" : "", facts->description);
  }
  if (json) PrintJson({{"environments", std::move(rows)}});
  return kExitDone;
}

absl::Status Broken(const std::string& what) {
  return absl::InternalError(what);
}

bool SameObservation(const Observation& a, const Observation& b) {
  if (a.messages.size() != b.messages.size()) return false;
  if (a.tools.size() != b.tools.size()) return false;
  // Field by field: serialised bytes may differ for equal messages.
  for (size_t i = 0; i < a.messages.size(); ++i) {
    if (!MessageDifferencer::Equals(a.messages[i], b.messages[i])) return false;
  }
  for (size_t i = 0; i < a.tools.size(); ++i) {
    if (!MessageDifferencer::Equals(a.tools[i], b.tools[i])) return false;
  }
  return true;
}

absl::Status CheckObservation(const Observation& observation) {
  if (observation.messages.empty()) return Broken("Reset gave no message");
  std::set<std::string> names;
  for (const Tool& tool : observation.tools) {
    // A call names its tool and nothing else.
    if (!names.insert(tool.name()).second) {
      return Broken(absl::StrCat("two tools are called ", tool.name()));
    }
  }
  return absl::OkStatus();
}

// Plays one task without a model: what no answer may break or earn.
absl::Status Play(const Task& task, uint64_t seed,
                  const EnvironmentContext& context) {
  ASSIGN_OR_RETURN(auto episode, NewEnvironment(task.environment(), context));
  ASSIGN_OR_RETURN(const Observation observation, episode->Reset(task, seed));
  RETURN_IF_ERROR(CheckObservation(observation));
  // Only Reset is compared: what Step gives hangs on calls that a model makes.
  if (episode->facts().deterministic) {
    ASSIGN_OR_RETURN(auto twin, NewEnvironment(task.environment(), context));
    ASSIGN_OR_RETURN(const Observation again, twin->Reset(task, seed));
    if (!SameObservation(observation, again)) {
      return Broken("the same task and seed gave another observation");
    }
  }
  // Any model will write one some day: it must be an answer, not the episode's
  // end.
  ToolCall unknown;
  unknown.set_name("no_such_tool");
  unknown.set_arguments_json("{}");
  ASSIGN_OR_RETURN(const std::vector<ToolResult> results,
                   episode->Step({unknown}));
  if (results.size() != 1 || results[0].outcome() != OUTCOME_TOOL_ERROR) {
    return Broken("a call of an unknown tool is not a TOOL_ERROR");
  }
  ASSIGN_OR_RETURN(const Verdict verdict,
                   // An episode that was cut off before the model said a word.
                   episode->Grade(OUTCOME_TRUNCATED, observation.messages));
  if (verdict.correct()) return Broken("no answer at all is graded correct");
  return absl::OkStatus();
}

// The tasks of environment `name` in the file `path`, all of which can run as
// far as is known without a model. Those of other environments that there are
// are counted in *others.
absl::StatusOr<std::vector<Task>> ValidTasks(const std::string& name,
                                             const std::string& path,
                                             int64_t* others) {
  auto reader = TaskFileReader::Open(path);
  RETURN_IF_ERROR(IfUnusable(
      reader.status(), "name a tasks.jsonl file; every run directory has one"));
  std::vector<Task> tasks;
  FaultList faults;
  int64_t seen = 0;
  int64_t shown_us = SystemClock()->MonotonicMicros();
  for (;;) {
    ASSIGN_OR_RETURN(auto line, (*reader)->Next());
    if (!line.has_value()) break;
    ++seen;
    const int64_t now = SystemClock()->MonotonicMicros();
    if (now - shown_us >= kProgressUs) {  // a sign of life, as train gives
      shown_us = now;
      PrintErr("checking tasks: %d of %s, %.0f %%\n", seen, path,
               100.0 * static_cast<double>((*reader)->bytes_read()) /
                   static_cast<double>((*reader)->bytes_total()));
    }
    absl::Status status = line->task.status();
    // A misspelt environment is nobody's: it is checked here, and refused.
    if (status.ok() && line->task->environment() != name &&
        FindEnvironment(line->task->environment()) != nullptr) {
      ++*others;
      continue;
    }
    if (status.ok()) {
      status = CheckWithoutModel(*line->task);
      if (status.ok()) {
        tasks.push_back(*std::move(line->task));
        continue;
      }
      status = absl::InvalidArgumentError(absl::StrCat(
          path, ":", line->number, ": ", std::string(status.message())));
    }
    faults.Add(std::string(status.message()));
  }
  RETURN_IF_ERROR(faults.status(TasksCannotRun(path, faults, seen)));
  if (tasks.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has no task of environment ", name, "; name a file that has"));
  }
  return tasks;
}

struct TestResult {
  std::optional<SelfTestReport>
      known;  // of an environment that has a self-test
  int64_t played = 0;
  int64_t others = 0;  // tasks of other environments: not looked at
};

absl::StatusOr<TestResult> Test(const std::string& name,
                                const std::string& path, uint64_t seed,
                                int64_t tasks_max) {
  const EnvironmentFacts* facts = FindEnvironment(name);
  if (facts == nullptr) {
    return NewEnvironment(name, EnvironmentContext()).status();
  }
  TestResult result;
  std::vector<Task> tasks;
  if (!path.empty()) {
    ASSIGN_OR_RETURN(tasks, ValidTasks(name, path, &result.others));
  } else if (facts->self_test == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " has no self-test; name a tasks.jsonl file by --tasks"));
  }
  std::unique_ptr<SandboxSupervisor> supervisor;
  std::unique_ptr<SandboxPool> pool;
  // In this process: what is tested is the environment, not its wire.
  if (facts->needs_sandbox) {
    ASSIGN_OR_RETURN(supervisor,
                     SandboxSupervisor::Start(SandboxSupervisorOptions()));
    ASSIGN_OR_RETURN(pool, SandboxPool::Create(supervisor.get()));
  }
  EnvironmentContext context;
  context.sandboxes = pool.get();
  if (facts->self_test != nullptr) {
    ASSIGN_OR_RETURN(result.known, RunSelfTest(*facts, context));
  }
  for (const Task& task : tasks) {
    // All were checked; playing takes a sandbox each.
    if (result.played == tasks_max) break;
    const absl::Status status = Play(task, seed, context);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("task ", task.id(), ": ",
                                       std::string(status.message())));
    }
    ++result.played;
  }
  return result;
}

void PrintSelfTest(const std::string& name, const SelfTestReport& report) {
  PrintOut(
      "%s: %d right answers are correct; %d wrong, %d empty and %d attacks "
      "are not\n",
      name, report.good, report.bad, report.empty, report.attacks);
  for (const std::string& skipped : report.skipped) {
    PrintOut("not tried: %s\n", skipped);
  }
}

int TestVerb(int argc, char** argv) {
  std::string name;
  std::string tasks;
  int64_t seed = 1;
  int64_t tasks_max = 16;
  bool json = false;
  Flags flags("env test",
              "Checks all tasks of an environment in a file, then plays some "
              "without a model and checks what the environment promises. One "
              "that grades code is first held to answers whose verdicts are "
              "known, attacks among them.");
  flags.Text("NAME", &name, "The environment; `temper env list` lists them.");
  flags.Require();
  flags.Text("--tasks", &tasks,
             "A tasks.jsonl file; may be left out where there is a self-test.");
  flags.Number("--seed", &seed, 0, INT64_MAX, "Of the episodes; default 1.");
  flags.Number("--count", &tasks_max, 1, 1 << 20,
               "Tasks to play at most; default 16.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::StatusOr<TestResult> result =
      Test(name, tasks, static_cast<uint64_t>(seed), tasks_max);
  if (!result.ok()) return ReportError("env test", result.status());
  if (json) {
    Json document = {{"environment", name},
                     {"tasks", result->played},
                     {"other_tasks", result->others}};
    if (result->known.has_value()) {
      document["self_test"] = {{"good", result->known->good},
                               {"bad", result->known->bad},
                               {"empty", result->known->empty},
                               {"attacks", result->known->attacks},
                               {"skipped", result->known->skipped}};
    }
    PrintJson(document);
    return kExitDone;
  }
  if (result->known.has_value()) PrintSelfTest(name, *result->known);
  if (tasks.empty()) return kExitDone;
  PrintOut("%s: %d tasks keep its promises\n", name, result->played);
  if (result->others > 0) {
    PrintOut("%d tasks of other environments were not looked at\n",
             result->others);
  }
  return kExitDone;
}

}  // namespace

int RunEnvVerb(int argc, char** argv) {
  return RunVerb(
      "env",
      {{"list", "list the environments", List},
       {"test", "check what an environment promises", TestVerb},
       {"index", "index a corpus for environment search", RunEnvIndex},
       {"search-tasks", "make a corpus and questions on it",
        RunEnvSearchTasks}},
      argc, argv);
}

}  // namespace temper
