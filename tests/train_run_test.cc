// `temper train` as a whole: real processes, both environments, a small random
// model. What it must keep through a run, through the death of any process,
// and from one run to the next.

#include <signal.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/model/chat_tokens.h"
#include "kernels/model/config.h"
#include "kernels/model/test_model.h"
#include "kernels/model/tokenizer_file.h"
#include "kernels/model/weights.h"
#include "learner/checkpoint.h"
#include "learner/ledger.h"
#include "learner/run_db.h"
#include "learner/sqlite.h"
#include "tests/temper_process.h"
#include "tools/quickstart_source.h"
#include "tools/run_view.h"
#include "tools/sft.h"

namespace temper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kDeadlineMs = 120'000;
constexpr int64_t kSteps = 8;
constexpr int64_t kGroups = 3, kSamples = 4;  // of a step
constexpr int64_t kEvalTasks = 2;
constexpr uint64_t kFileBytesMax = 64 << 20;
constexpr int32_t kVocabSize = 512;

std::string Temper() { return "tools/temper"; }

std::string Path(const std::string& name) {
  return absl::StrCat(getenv("TEST_TMPDIR"), "/", name);
}

std::string RunDir(const std::string& name) { return Path("runs/" + name); }

// A random model whose episodes differ in length: it likes to end a thought, or
// a message, where the token before says so.
void MakeModel(const std::string& dir) {
  ModelConfig config = TinyConfig();
  config.vocab_size = kVocabSize;
  config.max_position_embeddings = 4096;
  const auto source = NewQuickstartSource(/*seed=*/1);
  const auto spec = LearnTokenizer(source.get(), {"clean"}, 60, kVocabSize);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto tokenizer = Tokenizer::Create(*spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  SetFlushDenormals();
  const auto backend = NewCpuBackend(Tier::kScalar, /*threads=*/1);
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto weights = RandomModel(backend->get(), config, /*seed=*/7);
  std::vector<float> values = weights->GetValues();
  for (const Parameter& parameter : weights->parameters()) {
    if (parameter.name != "lm_head.weight") continue;
    for (const char* token : {kEosToken, kThinkEndToken}) {
      const auto id = (*tokenizer)->SpecialId(token);
      ASSERT_TRUE(id.has_value()) << token;
      float* const row =
          values.data() + parameter.offset + *id * config.hidden_size;
      for (int64_t i = 0; i < config.hidden_size; ++i) row[i] *= 5;
    }
  }
  ASSERT_TRUE(weights->SetValues(values).ok());
  ASSERT_TRUE(MakeDirectories(dir).ok());
  ASSERT_TRUE(weights->Save(dir, "F32").ok());
  ASSERT_TRUE(
      WriteFileDurably(dir + "/tokenizer.json", TokenizerJson(*spec)).ok());
}

// What a run left behind, as far as runs must agree.
struct RunFacts {
  // Of every trained sample in order: "step/group/sample/branch", then tokens
  // and log-probabilities.
  std::vector<std::string> samples;
  std::string weights;  // model.safetensors of the last checkpoint
  int64_t last_step = 0;
};

absl::StatusOr<std::vector<SqlRow>> Query(const std::string& run,
                                          const char* sql,
                                          const SqlRow& parameters = {}) {
  auto db = RunDb::OpenReader(RunDir(run) + "/run.db");
  if (!db.ok()) return db.status();
  auto transaction = (*db)->sqlite()->Begin();
  if (!transaction.ok()) return transaction.status();
  return (*transaction)->Query(sql, parameters);
}

int64_t LastStep(const std::string& run) {
  const auto rows = Query(run, "SELECT max(step) FROM lineage_step");
  return rows.ok() && !rows->empty() ? (*rows)[0][0].AsInt() : 0;
}

// Train samples that wait for the rest of their step.
int64_t ReceivedSamples(const std::string& run) {
  const auto rows = Query(run,
                          "SELECT count(*) FROM ledger WHERE state = "
                          "'received' AND grp < ?",
                          {kEvalGroupBase});
  return rows.ok() && !rows->empty() ? (*rows)[0][0].AsInt() : 0;
}

RunFacts ReadFacts(const std::string& run) {
  RunFacts facts;
  const auto rows =
      Query(run,
            "SELECT t.step, t.grp, t.sample, b.branch, b.tokens, b.logprobs "
            "FROM lineage_trained t JOIN ledger l USING(grp, sample) "
            "JOIN branch b ON b.episode = l.episode ORDER BY 1, 2, 3, 4");
  EXPECT_TRUE(rows.ok()) << rows.status();
  if (!rows.ok()) return facts;
  for (const SqlRow& row : *rows) {
    facts.samples.push_back(absl::StrCat(
        row[0].AsInt(), "/", row[1].AsInt(), "/", row[2].AsInt(), "/",
        row[3].AsInt(), " ", row[4].AsString(), row[5].AsString()));
  }
  facts.last_step = LastStep(run);
  const auto store = CheckpointStore::Create({RunDir(run) + "/checkpoints", 2});
  EXPECT_TRUE(store.ok()) << store.status();
  const auto newest = (*store)->LoadNewest();
  EXPECT_TRUE(newest.ok()) << newest.status();
  if (!newest.ok()) return facts;
  EXPECT_EQ(newest->step, facts.last_step);
  EXPECT_THAT(newest->skipped, SizeIs(0));
  const auto weights =
      ReadFile(newest->directory + "/model/model.safetensors", kFileBytesMax);
  EXPECT_TRUE(weights.ok()) << weights.status();
  if (weights.ok()) facts.weights = *weights;
  return facts;
}

// Nothing lost, nothing doubled.
absl::Status AuditRun(const std::string& run) {
  auto db = RunDb::OpenWriter(RunDir(run) + "/run.db", SystemClock());
  if (!db.ok()) return db.status();
  auto ledger = Ledger::Create(db->get(), RunDir(run) + "/segments");
  if (!ledger.ok()) return ledger.status();
  return (*ledger)->Audit();
}

class TrainRunTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    MakeModel(Path("model"));
    const std::string config = absl::StrCat(
        "model: \"", Path("model"), "\"\ntasks: \"quickstart\"\nruns_dir: \"",
        Path("runs"), "\"\nsteps: ", kSteps, "\nseed: 5\nthreads: 1\n",
        "objective { group_size: ", kSamples, " prompts_per_step: ", kGroups,
        " kl_coef: 0.05 }\n",
        "sampling { max_tokens: 24 max_turns: 2 }\n"
        "optimizer { learning_rate: 1e-3 }\n"
        "schedule { save_interval: 2 eval_tasks: ",
        kEvalTasks,
        " }\n"
        "rewards { format_weight: 0.5 length_weight: 1 "
        "length_target_tokens: 6 }\n");
    ASSERT_TRUE(WriteFileDurably(Path("small.textproto"), config).ok());
  }

  // `temper train` of a new run.
  static std::unique_ptr<TemperProcess> Start(
      const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"train", Path("small.textproto"), "--name",
                                     run};
    args.insert(args.end(), more.begin(), more.end());
    return std::make_unique<TemperProcess>(Temper(), args, Path(run));
  }
  static std::unique_ptr<TemperProcess> Resume(const std::string& run) {
    return std::make_unique<TemperProcess>(
        Temper(), std::vector<std::string>{"train", "--resume", RunDir(run)},
        Path(run + "-resumed"));
  }
  static void ExpectDone(TemperProcess* train) {
    const auto code = train->Wait(kDeadlineMs);
    EXPECT_EQ(code.value_or(-1), 0) << train->err() << train->out();
  }

  // The run that all others must agree with.
  static const RunFacts& Undisturbed() {
    static const RunFacts* facts = [] {
      const auto train = Start("undisturbed");
      ExpectDone(train.get());
      return new RunFacts(ReadFacts("undisturbed"));
    }();
    return *facts;
  }
  static void ExpectAsUndisturbed(const std::string& run) {
    const RunFacts& expected = Undisturbed();
    const RunFacts got = ReadFacts(run);
    ASSERT_THAT(expected.samples, SizeIs(kSteps * kGroups * kSamples));
    EXPECT_TRUE(got.samples == expected.samples) << "other samples trained";
    EXPECT_FALSE(got.weights.empty());
    EXPECT_TRUE(got.weights == expected.weights) << "other weights";
    const absl::Status audit = AuditRun(run);
    EXPECT_TRUE(audit.ok()) << audit;
  }
  // Waits until the run is in the middle of a step that follows one without a
  // checkpoint: some samples of it are here, others are being made.
  static void AwaitMiddle(const std::string& run, TemperProcess* train) {
    ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
      return !train->running() ||
             (LastStep(run) >= 3 && ReceivedSamples(run) >= 1);
    }));
    ASSERT_TRUE(train->running()) << train->err();
    ASSERT_LT(LastStep(run), kSteps) << "the run went by too fast";
  }
  // kill -9 of the first child of this verb; the run must go on to its end, and
  // run.db must tell of it.
  static void ExpectSurvivesDeathOf(const std::string& verb,
                                    const std::string& name,
                                    const std::string& run,
                                    const std::vector<std::string>& more) {
    const auto train = Start(run, more);
    AwaitMiddle(run, train.get());
    const pid_t child = ChildByVerb(train->pid(), verb);
    ASSERT_NE(child, 0);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ExpectDone(train.get());
    ExpectAsUndisturbed(run);
    const auto events = Query(
        run, "SELECT kind FROM event WHERE process = ? ORDER BY id", {name});
    ASSERT_TRUE(events.ok()) << events.status();
    std::vector<std::string> kinds;
    for (const SqlRow& row : *events) kinds.push_back(row[0].AsString());
    EXPECT_THAT(kinds, Contains("restarting"));
  }
};

TEST_F(TrainRunTest, OneCommandTrainsInBothEnvironmentsWithZeroMismatch) {
  const RunFacts& facts = Undisturbed();
  EXPECT_EQ(facts.last_step, kSteps);
  const auto initial =
      ReadFile(Path("model") + "/model.safetensors", kFileBytesMax);
  ASSERT_TRUE(initial.ok());
  EXPECT_FALSE(facts.weights.empty());
  EXPECT_TRUE(facts.weights != *initial) << "nothing was trained";
  const absl::Status audit = AuditRun("undisturbed");
  EXPECT_TRUE(audit.ok()) << audit;

  const auto metrics =
      Query("undisturbed", "SELECT step, name, value FROM lineage_metric");
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::map<std::pair<int64_t, std::string>, const SqlValue*> values;
  for (const SqlRow& row : *metrics) {
    values[{row[0].AsInt(), row[1].AsString()}] = &row[2];
  }
  const std::string diff = "train_rollout_logprob_abs_diff/";
  for (int64_t step = 1; step <= kSteps; ++step) {
    SCOPED_TRACE(absl::StrCat("step ", step));
    ASSERT_EQ(values.count({step, diff + "max"}), 1u);
    EXPECT_FALSE((values[{step, diff + "max"}])->is_null());
    EXPECT_EQ((values[{step, diff + "max"}])->AsDouble(), 0.0);
    ASSERT_EQ(values.count({step, diff + "tokens"}), 1u);
    EXPECT_GT((values[{step, diff + "tokens"}])->AsDouble(), 0.0);
    ASSERT_EQ(values.count({step, "grad_norm"}), 1u);
    EXPECT_GT((values[{step, "grad_norm"}])->AsDouble(), 0.0);
  }

  const auto environments = Query(
      "undisturbed",
      "SELECT DISTINCT e.environment FROM lineage_trained t "
      "JOIN ledger l USING(grp, sample) JOIN episode e ON e.id = l.episode "
      "ORDER BY 1");
  ASSERT_TRUE(environments.ok()) << environments.status();
  ASSERT_THAT(*environments, SizeIs(2));
  EXPECT_EQ((*environments)[0][0].AsString(), "interpreter");
  EXPECT_EQ((*environments)[1][0].AsString(), "math");
}

TEST_F(TrainRunTest, EvaluatesEachEnvironmentBeforeAndAfter) {
  Undisturbed();
  const auto db = RunDb::OpenReader(RunDir("undisturbed") + "/run.db");
  ASSERT_TRUE(db.ok()) << db.status();
  const auto evaluations = ReadEvaluations(db->get());
  ASSERT_TRUE(evaluations.ok()) << evaluations.status();
  std::vector<std::string> found;
  for (const EvalView& view : *evaluations) {
    found.push_back(
        absl::StrCat(view.step, " ", view.environment, " ", view.episodes));
  }
  EXPECT_THAT(found, ElementsAre("0 interpreter 2", "0 math 2",
                                 "8 interpreter 2", "8 math 2"));
}

TEST_F(TrainRunTest, TheTerminalShowsPlanStepsAndTheRunDirectory) {
  Undisturbed();
  const auto out = ReadFile(Path("undisturbed.out"), kFileBytesMax);
  ASSERT_TRUE(out.ok());
  EXPECT_THAT(*out, HasSubstr("fp32 on CPU tier"));
  EXPECT_THAT(*out, HasSubstr("env-host, learner, worker-0"));
  size_t at = 0;
  for (int64_t step = 1; step <= kSteps; ++step) {
    at = out->find(absl::StrCat("step   ", step, "/", kSteps), at);
    ASSERT_NE(at, std::string::npos) << step << *out;
  }
  EXPECT_THAT(out->substr(at), HasSubstr("mismatch 0 "));
  const size_t end = out->rfind("the run is in " + RunDir("undisturbed"));
  ASSERT_NE(end, std::string::npos) << *out;
  EXPECT_THAT(out->substr(end),
              HasSubstr(absl::StrCat(Temper(), " inspect steps ",
                                     RunDir("undisturbed"))));
}

TEST_F(TrainRunTest, TheCheckpointIsAModelDirectory) {
  Undisturbed();
  const std::string model = absl::StrCat(
      RunDir("undisturbed"), "/checkpoints/step_", kSteps, "/model");
  const auto config = ReadModelConfig(model);
  ASSERT_TRUE(config.ok()) << config.status();
  SetFlushDenormals();
  const auto backend = NewCpuBackend(Tier::kScalar, /*threads=*/1);
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_TRUE(ModelWeights::Load(backend->get(), *config, model).ok());
  EXPECT_TRUE(LoadTokenizer(model + "/tokenizer.json").ok());
}

TEST_F(TrainRunTest, TheSameSeedGivesTheSameBytes) {
  const auto train = Start("again");
  ExpectDone(train.get());
  ExpectAsUndisturbed("again");
}

TEST_F(TrainRunTest, TwoWorkersGiveTheBytesOfOne) {
  const auto train = Start("two-workers", {"--set", "workers=2"});
  ExpectDone(train.get());
  ExpectAsUndisturbed("two-workers");
}

TEST_F(TrainRunTest, AnotherSeedGivesOtherBytes) {
  const auto train = Start("other-seed", {"--seed", "6"});
  ExpectDone(train.get());
  const RunFacts facts = ReadFacts("other-seed");
  ASSERT_FALSE(facts.samples.empty());
  EXPECT_THAT(Undisturbed().samples, Not(Contains(facts.samples[0])));
}

TEST_F(TrainRunTest, AKilledLearnerResumesToTheSameWeights) {
  const auto train = Start("learner-killed");
  AwaitMiddle("learner-killed", train.get());
  const pid_t learner = ChildByVerb(train->pid(), "learner");
  ASSERT_NE(learner, 0);
  ASSERT_EQ(kill(learner, SIGKILL), 0);
  EXPECT_EQ(train->Wait(kDeadlineMs).value_or(-1), 1) << train->err();
  EXPECT_THAT(train->err(), HasSubstr("learner failed"));
  EXPECT_THAT(train->err(), HasSubstr(absl::StrCat(Temper(), " train --resume ",
                                                   RunDir("learner-killed"))));
  EXPECT_LT(LastStep("learner-killed"), kSteps);

  const auto resumed = Resume("learner-killed");
  ExpectDone(resumed.get());
  ExpectAsUndisturbed("learner-killed");
}

TEST_F(TrainRunTest, AKilledWorkerIsRestartedAndNothingIsLostOrDoubled) {
  ExpectSurvivesDeathOf("rollout", "worker-0", "worker-killed", {});
}

TEST_F(TrainRunTest, OneOfTwoWorkersKilledChangesNothing) {
  ExpectSurvivesDeathOf("rollout", "worker-0", "one-of-two-killed",
                        {"--set", "workers=2"});
}

TEST_F(TrainRunTest, AKilledEnvironmentHostIsRestartedAndChangesNothing) {
  ExpectSurvivesDeathOf("env-host", "env-host", "host-killed", {});
}

TEST_F(TrainRunTest, NoProcessOutlivesAKilledTrain) {
  const auto train = Start("train-killed");
  AwaitMiddle("train-killed", train.get());
  const std::vector<ProcessInfo> below = Descendants(train->pid());
  EXPECT_GE(below.size(), 3u);  // learner, worker, env-host
  train->Signal(SIGKILL);
  EXPECT_EQ(train->Wait(kDeadlineMs).value_or(-1), 128 + SIGKILL);
  for (const ProcessInfo& process : below) {
    EXPECT_TRUE(Eventually(20'000, [&process] { return !StillRuns(process); }))
        << process.pid << " " << ::testing::PrintToString(process.argv);
  }
  const auto resumed = Resume("train-killed");
  ExpectDone(resumed.get());
  ExpectAsUndisturbed("train-killed");
}

TEST_F(TrainRunTest, CtrlCEndsWithACheckpointThatResumes) {
  const auto train = Start("stopped");
  AwaitMiddle("stopped", train.get());
  train->Signal(SIGINT);
  ExpectDone(train.get());
  EXPECT_THAT(train->err(), HasSubstr("train --resume " + RunDir("stopped")));
  const RunFacts stopped = ReadFacts("stopped");
  EXPECT_GE(stopped.last_step, 3);
  EXPECT_LT(stopped.last_step, kSteps);
  EXPECT_FALSE(stopped.weights.empty());

  const auto resumed = Resume("stopped");
  ExpectDone(resumed.get());
  ExpectAsUndisturbed("stopped");
}

TEST_F(TrainRunTest, MisuseExitsWithTwoAndNamesWhatIsWrong) {
  const auto misspelt = Start("misspelt", {"--set", "gruop_size=4"});
  EXPECT_EQ(misspelt->Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(misspelt->err(), HasSubstr("gruop_size"));
  EXPECT_THAT(misspelt->err(), HasSubstr("group_size"));

  const auto no_model =
      Start("no-model", {"--set", absl::StrCat("model=", Path("nowhere"))});
  EXPECT_EQ(no_model->Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(no_model->err(), HasSubstr(Path("nowhere")));

  TemperProcess no_tier(Temper(), {"train", Path("small.textproto")},
                        Path("no-tier"), {"TEMPER_ISA=avx512"});
  EXPECT_EQ(no_tier.Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(no_tier.err(), HasSubstr("TEMPER_ISA=avx512"));

  // None of them began a run.
  for (const char* run : {"misspelt", "no-model"}) {
    struct stat info;
    EXPECT_NE(stat(RunDir(run).c_str(), &info), 0) << run;
  }
}

}  // namespace
}  // namespace temper
