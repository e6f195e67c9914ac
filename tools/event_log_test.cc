#include "tools/event_log.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/run_db.h"
#include "tools/run_view.h"

namespace temper {
namespace {

class EventLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string directory = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(directory).ok());
    log_ = directory + "/events.log";
    run_db_ = directory + "/run.db";
  }

  void MakeRun() {
    auto db = RunDb::OpenWriter(run_db_, &clock_);
    ASSERT_TRUE(db.ok()) << db.status();
    ASSERT_TRUE((*db)->StartRun({"trial", 1, "", "", ""}).ok());
  }

  std::vector<EventView> Events() {
    return *ReadEvents(RunDb::OpenReader(run_db_)->get(), 100);
  }

  FakeClock clock_;
  std::string log_;
  std::string run_db_;
};

TEST_F(EventLogTest, EventsReachRunDbOnceHoweverOftenImported) {
  MakeRun();
  ASSERT_TRUE(AppendEvent(log_, &clock_, "w0", "failed", "exit\t1\n").ok());
  clock_.AdvanceMicros(5);
  ASSERT_TRUE(AppendEvent(log_, &clock_, "w0", "failed", "signal 9").ok());
  ASSERT_TRUE(ImportEvents(log_, run_db_, &clock_).ok());
  const absl::Status again = ImportEvents(log_, run_db_, &clock_);
  ASSERT_TRUE(again.ok()) << again;
  const auto events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].detail, "exit 1 ");
  EXPECT_EQ(events[0].at_us, 1'000'000);
  EXPECT_EQ(events[1].detail, "signal 9");
}

TEST_F(EventLogTest, TornLastLineIsLeftOut) {
  MakeRun();
  ASSERT_TRUE(AppendEvent(log_, &clock_, "w0", "started", "pid 1").ok());
  std::ofstream(log_, std::ios::app) << "1000001\tw1\tfai";
  ASSERT_TRUE(ImportEvents(log_, run_db_, &clock_).ok());
  EXPECT_EQ(Events().size(), 1u);
}

TEST_F(EventLogTest, MissingFilesAreFine) {
  EXPECT_TRUE(ImportEvents(log_, run_db_, &clock_).ok());
  ASSERT_TRUE(AppendEvent(log_, &clock_, "w0", "started", "pid 1").ok());
  EXPECT_TRUE(ImportEvents(log_, run_db_, &clock_).ok());
}

TEST_F(EventLogTest, RunDbInUseIsRefused) {
  MakeRun();
  ASSERT_TRUE(AppendEvent(log_, &clock_, "w0", "started", "pid 1").ok());
  const auto writer = RunDb::OpenWriter(run_db_, &clock_);
  EXPECT_EQ(ImportEvents(log_, run_db_, &clock_).code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace temper
