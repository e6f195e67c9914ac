#include "tests/trial_run.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/store/checkpoint.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"

namespace temper {
namespace {

constexpr uint64_t kFileBytesMax = 64 << 20;
constexpr char kResumeWith[] = "resume with\n  ";

std::string BytesOf(const Trajectory& trajectory) {
  std::string bytes;
  for (const Branch& branch : trajectory.branches()) {
    for (const std::string& part :
         {branch.tokens(), branch.sampled(), branch.logprobs(),
          branch.kept_offsets(), branch.kept_ids(), branch.routes()}) {
      absl::StrAppend(&bytes, part.size(), ":", part);
    }
  }
  absl::StrAppend(&bytes, trajectory.reward());
  return bytes;
}

// The ledger of a run that has ended.
struct OpenLedger {
  std::unique_ptr<RunDb> db;
  std::unique_ptr<Ledger> ledger;
};

absl::StatusOr<OpenLedger> OpenLedgerOf(const std::string& run) {
  OpenLedger open;
  ASSIGN_OR_RETURN(open.db,
                   RunDb::OpenWriter(RunDir(run) + "/run.db", SystemClock()));
  ASSIGN_OR_RETURN(open.ledger,
                   Ledger::Create(open.db.get(), RunDir(run) + "/segments"));
  return open;
}

}  // namespace

std::string TrialPath(const std::string& name) {
  return absl::StrCat(getenv("TEST_TMPDIR"), "/", name);
}

std::string RunDir(const std::string& run) { return TrialPath("runs/" + run); }

std::string ReadAll(const std::string& path) {
  const auto text = ReadFile(path, kFileBytesMax);
  CHECK(text.ok()) << text.status();
  return *text;
}

std::string WriteSmallConfig(int64_t steps, int64_t save_interval) {
  const std::string path = TrialPath("small.textproto");
  const std::string config = absl::StrCat(
      "model: \"", kQuickstartModel, "\"\ntasks: \"quickstart\"\n",
      "runs_dir: \"", TrialPath("runs"), "\"\nsteps: ", steps,
      "\nseed: 5\nthreads: 1\n", "objective { group_size: ", kSmallSamples,
      " prompts_per_step: ", kSmallGroups, " kl_coef: 0.05 }\n",
      "sampling { max_tokens: 96 max_turns: 3 }\n"
      "optimizer { learning_rate: 1e-4 }\n"
      "schedule { save_interval: ",
      save_interval,
      " eval_tasks: 2 }\n"
      "rewards { format_weight: 0.5 }\n");
  const absl::Status written = WriteFileDurably(path, config);
  CHECK(written.ok()) << written;
  return path;
}

std::unique_ptr<TemperProcess> StartTrain(
    const std::string& config, const std::string& run,
    const std::vector<std::string>& more,
    const std::vector<std::string>& environment) {
  std::vector<std::string> args = {"train", config, "--name", run};
  args.insert(args.end(), more.begin(), more.end());
  return std::make_unique<TemperProcess>(kTemper, args, TrialPath(run),
                                         environment);
}

std::string ResumeCommandIn(const std::string& err) {
  const size_t at = err.find(kResumeWith);
  if (at == std::string::npos) return "";
  const size_t begin = at + sizeof(kResumeWith) - 1;
  return err.substr(begin, err.find('\n', begin) - begin);
}

std::vector<std::string> NextCommandsIn(const std::string& out) {
  std::vector<std::string> commands;
  const size_t at = out.rfind("worth trying next:\n");
  if (at == std::string::npos) return commands;
  for (const auto line : absl::StrSplit(out.substr(at), '\n')) {
    if (absl::StartsWith(line, "  ") &&
        !absl::StrContains(line, " --resume ")) {
      commands.emplace_back(line.substr(2));
    }
  }
  return commands;
}

std::unique_ptr<TemperProcess> RunCommandLine(const std::string& line,
                                              const std::string& output) {
  return std::make_unique<TemperProcess>(
      "/bin/sh", std::vector<std::string>{"-c", "exec " + line}, output);
}

absl::StatusOr<std::vector<SqlRow>> Query(const std::string& run,
                                          const char* sql,
                                          const SqlRow& parameters) {
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenReader(RunDir(run) + "/run.db"));
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  return transaction->Query(sql, parameters);
}

int64_t QueryNumber(const std::string& run, const char* sql,
                    const SqlRow& parameters) {
  const auto rows = Query(run, sql, parameters);
  return rows.ok() && !rows->empty() ? (*rows)[0][0].AsInt() : 0;
}

int64_t LastStep(const std::string& run) {
  return QueryNumber(run, "SELECT max(step) FROM lineage_step");
}

absl::StatusOr<RunFacts> ReadFacts(const std::string& run) {
  RunFacts facts;
  ASSIGN_OR_RETURN(const auto rows,
                   Query(run,
                         "SELECT step, grp, sample FROM lineage_trained "
                         "ORDER BY 1, 2, 3"));
  ASSIGN_OR_RETURN(const OpenLedger open, OpenLedgerOf(run));
  for (const SqlRow& row : rows) {
    const SampleKey key = {static_cast<uint64_t>(row[1].AsInt()),
                           static_cast<uint32_t>(row[2].AsInt())};
    ASSIGN_OR_RETURN(const Trajectory trajectory, open.ledger->Load(key));
    facts.samples.push_back(absl::StrCat(row[0].AsInt(), "/", key.group, "/",
                                         key.sample, " ", BytesOf(trajectory)));
  }
  facts.last_step = LastStep(run);
  ASSIGN_OR_RETURN(
      const auto store,
      CheckpointStore::Create({RunDir(run) + "/checkpoints", /*keep=*/2}));
  ASSIGN_OR_RETURN(const auto newest, store->LoadNewest());
  if (newest.step != facts.last_step || !newest.skipped.empty()) {
    return absl::DataLossError(absl::StrCat(
        "the newest checkpoint is of step ", newest.step, " of ",
        facts.last_step, ", and ", newest.skipped.size(), " were skipped"));
  }
  ASSIGN_OR_RETURN(
      facts.weights,
      ReadFile(newest.directory + "/masters.safetensors", kFileBytesMax));
  return facts;
}

absl::Status AuditRun(const std::string& run) {
  ASSIGN_OR_RETURN(const OpenLedger open, OpenLedgerOf(run));
  return open.ledger->Audit();
}

}  // namespace temper
