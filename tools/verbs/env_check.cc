#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/conformance.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "environments/self_test.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/cli/progress_timer.h"
#include "tools/run/task_check.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

constexpr uint64_t kTranscriptBytesMax = 64 << 20;

// The tasks of environment `name` in the file `path`, all of which can run as
// far as is known without a model. Those of other environments that there are
// are counted in *others.
absl::StatusOr<std::vector<Task>> ValidTasks(const std::string& name,
                                             const std::string& path,
                                             EnvironmentSet* environments,
                                             int64_t* others) {
  auto reader = TaskFileReader::Open(path);
  RETURN_IF_ERROR(IfUnusable(
      reader.status(), "name a tasks.jsonl file; every run directory has one"));
  std::vector<Task> tasks;
  FaultList faults;
  int64_t seen = 0;
  ProgressTimer timer;
  for (;;) {
    ASSIGN_OR_RETURN(auto line, (*reader)->Next());
    if (!line.has_value()) break;
    ++seen;
    TellChecking(&timer, path, seen, (*reader)->bytes_read(),
                 (*reader)->bytes_total());
    absl::Status status = line->task.status();
    // A misspelt environment is nobody's: it is checked here, and refused.
    if (status.ok() && line->task->environment() != name &&
        environments->CheckName(line->task->environment()).ok()) {
      ++*others;
      continue;
    }
    if (status.ok()) {
      status = CheckWithoutModel(*line->task, environments);
      // Nobody there to ask: of no task, so of all.
      if (!status.ok() && !absl::IsInvalidArgument(status)) return status;
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

struct TestFlags {
  std::string name;
  std::string tasks;
  std::string transcript;
  int64_t seed = 1;
  int64_t count = 16;
};

struct TestResult {
  std::optional<SelfTestReport>
      known;  // of an environment that has a self-test
  int64_t played = 0;
  int64_t others = 0;  // tasks of other environments: not looked at
  bool transcript_made = false;
};

// Holds what was said to the file, or makes it where there is none.
absl::Status CheckTranscript(const std::string& path, const std::string& said,
                             bool* made) {
  const auto kept = ReadFile(path, kTranscriptBytesMax);
  if (absl::IsNotFound(kept.status())) {
    *made = true;
    return WriteFileDurably(path, said);
  }
  RETURN_IF_ERROR(kept.status());
  if (*kept == said) return absl::OkStatus();
  size_t at = 0;
  while (at < kept->size() && at < said.size() && (*kept)[at] == said[at]) {
    ++at;
  }
  // npos + 1 is 0.
  const size_t begin = said.rfind('\n', at) + 1;
  return absl::InternalError(absl::StrCat(
      path, " has another transcript, from\n  ",
      kept->substr(begin, kept->find('\n', begin) - begin), "\non, now\n  ",
      said.substr(begin, said.find('\n', begin) - begin),
      "\nif that is as it should be, remove the file and make it anew"));
}

absl::Status Play(const std::vector<Task>& tasks, const TestFlags& flags,
                  const EnvironmentContext& context,
                  EnvironmentSet* environments, TestResult* result) {
  std::string said;
  for (const Task& task : tasks) {
    // All were checked; playing takes a sandbox each.
    if (result->played == flags.count) break;
    const auto new_episode = [&] {
      return environments->New(task.environment(), context);
    };
    const uint64_t seed = static_cast<uint64_t>(flags.seed);
    absl::Status status = CheckConformance(task, seed, new_episode);
    if (status.ok() && !flags.transcript.empty()) {
      const auto transcript = PlayTranscript(task, seed, new_episode);
      status = transcript.status();
      if (status.ok()) said += *transcript;
    }
    if (!status.ok()) {
      status = environments->Explain(task.environment(), status);
      return absl::Status(status.code(),
                          absl::StrCat("task ", task.id(), ": ",
                                       std::string(status.message())));
    }
    ++result->played;
  }
  if (flags.transcript.empty()) return absl::OkStatus();
  return CheckTranscript(flags.transcript, said, &result->transcript_made);
}

absl::StatusOr<TestResult> Test(const TestFlags& flags) {
  ASSIGN_OR_RETURN(const auto environments,
                   EnvironmentSet::Open(kRegistryFile));
  RETURN_IF_ERROR(environments->CheckName(flags.name));
  const EnvironmentFacts* facts = environments->Find(flags.name);
  if (!flags.transcript.empty() && !facts->deterministic) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.name,
                     " does not say that it is deterministic, so no "
                     "transcript of it stays true; leave out --transcript"));
  }
  TestResult result;
  std::vector<Task> tasks;
  if (!flags.tasks.empty()) {
    ASSIGN_OR_RETURN(tasks, ValidTasks(flags.name, flags.tasks,
                                       environments.get(), &result.others));
  } else if (facts->self_test == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        flags.name, " has no self-test; name a tasks.jsonl file by --tasks"));
  }
  std::unique_ptr<SandboxSupervisor> supervisor;
  std::unique_ptr<SandboxPool> pool;
  // In this process: what is tested is the environment, not its wire; one that
  // is registered is played over its own.
  if (facts->needs_sandbox && facts->served_in == ServedIn::kHost) {
    ASSIGN_OR_RETURN(supervisor,
                     SandboxSupervisor::Start(SandboxSupervisorOptions()));
    ASSIGN_OR_RETURN(pool, SandboxPool::Create(supervisor.get()));
  }
  EnvironmentContext context;
  context.sandboxes = pool.get();
  if (facts->self_test != nullptr) {
    ASSIGN_OR_RETURN(result.known, RunSelfTest(*facts, context));
  }
  RETURN_IF_ERROR(Play(tasks, flags, context, environments.get(), &result));
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

void PrintTest(const TestFlags& flags, const TestResult& result) {
  if (result.known.has_value()) PrintSelfTest(flags.name, *result.known);
  if (flags.tasks.empty()) return;
  PrintOut("%s: %d tasks keep its promises\n", flags.name, result.played);
  if (result.transcript_made) {
    PrintOut(
        "%s is made: what it says to these tasks is held to it from now "
        "on\n",
        flags.transcript);
  }
  if (result.others > 0) {
    PrintOut("%d tasks of other environments were not looked at\n",
             result.others);
  }
}

}  // namespace

int RunEnvTest(int argc, char** argv) {
  TestFlags values;
  bool json = false;
  Flags flags("env test",
              "Checks all tasks of an environment in a file, then plays some "
              "without a model and checks what the environment promises. One "
              "that grades code is first held to answers whose verdicts are "
              "known, attacks among them.");
  flags.Text("NAME", &values.name,
             "The environment; `temper env list` lists them.");
  flags.Require();
  flags.Text("--tasks", &values.tasks,
             "A tasks.jsonl file; may be left out where there is a self-test.");
  flags.Text("--transcript", &values.transcript,
             "A file that has what a deterministic one says to the tasks that "
             "are played; made if it is not there.");
  flags.Number("--seed", &values.seed, 0, INT64_MAX,
               "Of the episodes; default 1.");
  flags.Number("--count", &values.count, 1, 1 << 20,
               "Tasks to play at most; default 16.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  if (values.tasks.empty() && !values.transcript.empty()) {
    return ReportError("env test",
                       absl::InvalidArgumentError(
                           "--transcript is of tasks; name them by --tasks"));
  }
  const absl::StatusOr<TestResult> result = Test(values);
  if (!result.ok()) return ReportError("env test", result.status());
  if (!json) {
    PrintTest(values, *result);
    return kExitDone;
  }
  Json document = {{"environment", values.name},
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

int RunEnvValidate(int argc, char** argv) {
  std::string name;
  std::string path;
  Flags flags("env validate",
              "Asks an environment about all its tasks in a file, and plays "
              "none: what a run does before it starts, without a model.");
  flags.Text("NAME", &name, "The environment; `temper env list` lists them.");
  flags.Require();
  flags.Text("TASKS", &path, "A tasks.jsonl file.");
  flags.Require();
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto environments = EnvironmentSet::Open(kRegistryFile);
  absl::Status status = environments.status();
  if (status.ok()) status = (*environments)->CheckName(name);
  if (!status.ok()) return ReportError("env validate", status);
  int64_t others = 0;
  const auto tasks = ValidTasks(name, path, environments->get(), &others);
  if (!tasks.ok()) return ReportError("env validate", tasks.status());
  PrintOut("%s: %d tasks can run, as far as is known without a model\n", name,
           tasks->size());
  if (others > 0) {
    PrintOut("%d tasks of other environments were not looked at\n", others);
  }
  return kExitDone;
}

}  // namespace temper
