// kill -9 of the writer at many points: what it acked is there, the audit
// passes, and a resumed run trains every sample exactly once.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <set>

#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

constexpr int kSteps = 6;
constexpr uint32_t kGroupSize = 2;

// What the child says once a call has returned OK.
struct Ack {
  enum Kind : int32_t { kReceived, kStep, kDone } kind;
  int64_t number;  // the group, the step
  int64_t sample;
};

void Say(int fd, Ack::Kind kind, int64_t number, int64_t sample) {
  const Ack ack{kind, number, sample};
  if (write(fd, &ack, sizeof(ack)) != sizeof(ack)) _exit(3);
}

void Require(const absl::Status& status) {
  if (status.ok()) return;
  fprintf(stderr, "writer: %s\n", status.ToString().c_str());
  _exit(2);
}

// Goes on with the run in `directory` to kSteps, one group a step, resuming
// from step `base` of attempt `base_attempt` if there is a run.
void Write(const std::string& directory, int64_t base_attempt, int64_t base,
           int fd) {
  auto db = RunDb::OpenWriter(directory + "/run.db", SystemClock());
  Require(db.status());
  const bool fresh = !(*db)->ReadRun().ok();
  if (fresh) Require((*db)->StartRun({"trial", 1, "", "", ""}));
  auto ledger = Ledger::Create(db->get(), directory + "/segments");
  Require(ledger.status());
  if (!fresh) Require((*ledger)->Resume(base_attempt, base).status());
  uint64_t version = *(*db)->NextWeightVersion();
  Require((*db)->RecordWeightVersion(
      {version, 0, base, std::to_string(version), 1}));
  for (int64_t step = base + 1; step <= kSteps; ++step) {
    const uint64_t group = static_cast<uint64_t>(step);
    if (*(*ledger)->NextGroup(PURPOSE_TRAIN) == group) {
      Require((*ledger)->IssueGroups(
          {{group, PURPOSE_TRAIN, "task", step - 1, kGroupSize, {}}}));
    }
    const uint64_t lease = *(*ledger)->NextLease();
    for (uint32_t sample = 0; sample < kGroupSize; ++sample) {
      if (StateOf(db->get(), {group, sample}) == "received") continue;
      auto result =
          (*ledger)->Commit(FixtureTrajectory(group, sample, lease, version));
      Require(result.status());
      if (*result != CommitResult::kCommitted) _exit(4);
      Say(fd, Ack::kReceived, step, sample);
    }
    Require((*ledger)->Reserve(step, {group}));
    StepRecord record;
    record.step = step;
    record.weight_version = version;
    record.samples = {{group, 0}, {group, 1}};
    record.metrics = {{"loss", 1.0}};
    Require((*ledger)->CommitStep(record));
    Say(fd, Ack::kStep, step, 0);
    version = *(*db)->NextWeightVersion();
    Require((*db)->RecordWeightVersion(
        {version, 0, step, std::to_string(version), 1}));
  }
  Say(fd, Ack::kDone, 0, 0);
  pause();
}

struct Acked {
  std::set<SampleKey> received;
  int64_t step = 0;
  bool done = false;
};

// Runs the writer and kills it once it has acked `kill_after` calls; returns
// all it acked.
Acked RunAndKill(const std::string& directory, int64_t base_attempt,
                 int64_t base, int kill_after) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(fds[0]);
    Write(directory, base_attempt, base, fds[1]);
    _exit(0);
  }
  close(fds[1]);
  Acked acked;
  acked.step = base;
  Ack ack;
  int count = 0;
  while (read(fds[0], &ack, sizeof(ack)) == sizeof(ack)) {
    if (ack.kind == Ack::kReceived) {
      acked.received.insert({static_cast<uint64_t>(ack.number),
                             static_cast<uint32_t>(ack.sample)});
    } else if (ack.kind == Ack::kStep) {
      acked.step = ack.number;
    } else {
      acked.done = true;
    }
    if (++count == kill_after || acked.done) kill(child, SIGKILL);
  }
  close(fds[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "writer exited " << WEXITSTATUS(status);
  return acked;
}

TEST(LedgerCrashTest, KilledAnywhereNothingAckedIsLostOrTrainedTwice) {
  for (int kill_after = 1; kill_after < kSteps * 3; kill_after += 2) {
    SCOPED_TRACE(kill_after);
    const std::string directory = std::string(getenv("TEST_TMPDIR")) + "/kill" +
                                  std::to_string(kill_after);
    ASSERT_TRUE(MakeDirectories(directory).ok());
    int64_t base_attempt = 1;
    int64_t base = 0;
    Acked acked = RunAndKill(directory, base_attempt, base, kill_after);
    for (int round = 0; round < 20 && !acked.done; ++round) {
      {
        auto db = RunDb::OpenWriter(directory + "/run.db", SystemClock());
        ASSERT_TRUE(db.ok()) << db.status();
        auto ledger = *Ledger::Create(db->get(), directory + "/segments");
        const absl::Status audit = ledger->Audit();
        ASSERT_TRUE(audit.ok()) << audit;
        EXPECT_GE(LatestStep(db->get()), acked.step);
        for (const SampleKey& key : acked.received) {
          EXPECT_NE(StateOf(db->get(), key), "issued");
          EXPECT_TRUE(ledger->Load(key).ok());
        }
        // The checkpoint is one behind the last step.
        const int64_t latest = LatestStep(db->get());
        if (latest - 1 > base) {
          base = latest - 1;
          base_attempt = *(*db)->CurrentAttempt();
        }
      }
      acked = RunAndKill(directory, base_attempt, base, kill_after + round);
    }
    ASSERT_TRUE(acked.done);
    auto db = *RunDb::OpenWriter(directory + "/run.db", SystemClock());
    auto ledger = *Ledger::Create(db.get(), directory + "/segments");
    EXPECT_TRUE(ledger->Audit().ok()) << ledger->Audit();
    EXPECT_EQ(LatestStep(db.get()), kSteps);
    auto txn = *db->sqlite()->Begin();
    EXPECT_EQ(*txn->QueryInt("SELECT count(*) FROM lineage_trained", {}, -1),
              kSteps * int64_t{kGroupSize});
    EXPECT_EQ(
        *txn->QueryInt("SELECT count(*) FROM ledger WHERE state = 'trained'",
                       {}, -1),
        kSteps * int64_t{kGroupSize});
  }
}

}  // namespace
}  // namespace temper
