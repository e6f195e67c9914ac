// A run of a test's own: run.db and ledger in a new directory, with the run
// "trial" begun and nothing else. And what only tests ask of them.

#ifndef LEARNER_STORE_RUN_DB_FIXTURE_H_
#define LEARNER_STORE_RUN_DB_FIXTURE_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"
#include "learner/store/sqlite.h"

namespace temper {

// The highest step of the surviving lineage; its base if it has none yet.
inline int64_t LatestStep(RunDb* db) {
  auto transaction = *db->sqlite()->Begin();
  return *transaction->QueryInt("SELECT max(step) FROM lineage_step", {}, 0);
}

// The state's name of one sample; "" of one never issued.
inline std::string StateOf(RunDb* db, const SampleKey& key) {
  auto transaction = *db->sqlite()->Begin();
  const auto rows = *transaction->Query(
      "SELECT state FROM ledger WHERE grp = ? AND sample = ?",
      {key.group, key.sample});
  return rows.empty() ? "" : rows[0][0].AsString();
}

// run.db of `directory`, opened to be written, its run "trial" begun where none
// is; null, and a failed test, where that fails.
inline std::unique_ptr<RunDb> OpenTrialDb(const std::string& directory,
                                          Clock* clock) {
  auto db = RunDb::OpenWriter(directory + "/run.db", clock);
  EXPECT_TRUE(db.ok()) << db.status();
  if (!db.ok()) return nullptr;
  if (!(*db)->ReadRun().ok()) {
    const absl::Status started = (*db)->StartRun({"trial", 1, "", "", ""});
    EXPECT_TRUE(started.ok()) << started;
    if (!started.ok()) return nullptr;
  }
  return *std::move(db);
}

class RunDbFixture : public testing::Test {
 protected:
  void SetUp() override { FreshRun(); }

  // A run of its own, in another directory.
  void FreshRun() {
    FreshDirectory();
    OpenRun();
  }

  // Where nothing is yet: as a run is before its learner has started.
  void FreshDirectory() {
    static int next = 0;
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/run", next++);
    ASSERT_TRUE(MakeDirectories(directory_).ok());
  }

  // Opens both, after closing them if they are open: as a learner that starts
  // again, over the same files.
  void OpenRun() {
    ledger_.reset();
    db_.reset();
    db_ = OpenTrialDb(directory_, &clock_);
    ASSERT_NE(db_, nullptr);
    auto ledger = Ledger::Create(db_.get(), directory_ + "/segments");
    ASSERT_TRUE(ledger.ok()) << ledger.status();
    ledger_ = *std::move(ledger);
  }

  // Weights `version`, made by `step` steps, are published.
  void RecordVersion(uint64_t version, int64_t step) {
    const int64_t attempt = *db_->CurrentAttempt();
    ASSERT_TRUE(db_->RecordWeightVersion(
                       {version, attempt, step, absl::StrCat("h", version), 1})
                    .ok());
  }

  std::string StateOf(const SampleKey& key) {
    return temper::StateOf(db_.get(), key);
  }

  FakeClock clock_;
  std::string directory_;
  std::unique_ptr<RunDb> db_;
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace temper

#endif  // LEARNER_STORE_RUN_DB_FIXTURE_H_
