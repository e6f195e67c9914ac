// A run of a test's own: run.db and ledger in a new directory, with the run
// "trial" begun and nothing else. And what only tests ask of them.

#ifndef LEARNER_STORE_RUN_DB_FIXTURE_H_
#define LEARNER_STORE_RUN_DB_FIXTURE_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

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

class RunDbFixture : public testing::Test {
 protected:
  void SetUp() override { FreshRun(); }

  // A run of its own, in another directory.
  void FreshRun() {
    static int next = 0;
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/run", next++);
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    OpenRun();
  }

  // Opens both, after closing them if they are open: as a learner that starts
  // again, over the same files.
  void OpenRun() {
    ledger_.reset();
    db_.reset();
    auto db = RunDb::OpenWriter(directory_ + "/run.db", &clock_);
    ASSERT_TRUE(db.ok()) << db.status();
    db_ = *std::move(db);
    if (!db_->ReadRun().ok()) {
      ASSERT_TRUE(db_->StartRun({"trial", 1, "", "", ""}).ok());
    }
    auto ledger = Ledger::Create(db_.get(), directory_ + "/segments");
    ASSERT_TRUE(ledger.ok()) << ledger.status();
    ledger_ = *std::move(ledger);
  }

  // Weights `version`, made by `step` updates, are published.
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
