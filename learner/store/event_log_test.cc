#include "learner/store/event_log.h"

#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "learner/store/run_db_fixture.h"
#include "learner/store/sqlite.h"

namespace temper {
namespace {

struct Event {
  int64_t at_us;
  int64_t attempt;
  std::string process, detail;
};

class EventLogTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    log_ = directory_ + "/events.log";
  }

  void Append(const std::string& process, const std::string& detail) {
    clock_.AdvanceMicros(1);
    ASSERT_TRUE(AppendEvent(log_, &clock_, process, "failed", detail).ok());
  }
  void ImportAll() {
    uint64_t offset = 0;
    const absl::Status status = ImportEvents(log_, db_.get(), &offset);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::vector<Event> Events() {
    const auto transaction = db_->sqlite()->Begin();
    const auto rows = (*transaction)
                          ->Query(
                              "SELECT at_us, attempt, process, detail "
                              "FROM event ORDER BY id");
    std::vector<Event> events;
    for (const SqlRow& row : *rows) {
      events.push_back({row[0].AsInt(), row[1].AsInt(), row[2].AsString(),
                        row[3].AsString()});
    }
    return events;
  }
  bool Eventually(size_t events) {
    const int64_t deadline = SystemClock()->MonotonicMicros() + 20'000'000;
    while (Events().size() != events) {
      if (SystemClock()->MonotonicMicros() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::string log_;
};

TEST_F(EventLogTest, EventsReachRunDbOnceHoweverOftenImported) {
  Append("w0", "exit\t1\n");
  Append("w0", "signal 9");
  ImportAll();
  ImportAll();
  const auto events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].detail, "exit 1 ");
  EXPECT_EQ(events[0].at_us, 1'000'001);
  EXPECT_EQ(events[0].attempt, 1);
  EXPECT_EQ(events[1].detail, "signal 9");
}

TEST_F(EventLogTest, ImportGoesOnBehindTheLastWholeLine) {
  uint64_t offset = 0;
  Append("w0", "one");
  ASSERT_TRUE(ImportEvents(log_, db_.get(), &offset).ok());
  const uint64_t behind_one = offset;
  EXPECT_EQ(offset, ReadFile(log_, 1 << 20)->size());
  std::ofstream(log_, std::ios::app) << "1000009\tw1\tfai";
  ASSERT_TRUE(ImportEvents(log_, db_.get(), &offset).ok());
  EXPECT_EQ(offset, behind_one);
  EXPECT_EQ(Events().size(), 1u);
}

TEST_F(EventLogTest, AnEventAfterATornLineIsNotLost) {
  std::ofstream(log_, std::ios::app) << "1000009\tw1\tfai";
  Append("w0", "whole");
  ImportAll();
  const auto events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].detail, "whole");
}

TEST_F(EventLogTest, NoFileIsFine) {
  ImportAll();
  EXPECT_EQ(Events().size(), 0u);
}

TEST_F(EventLogTest, FollowerRecordsWhatComesWhileItLives) {
  Append("w0", "before");
  {
    const EventFollower follower(log_, db_.get());
    EXPECT_TRUE(Eventually(1));
    Append("w0", "meanwhile");
    EXPECT_TRUE(Eventually(2));
  }
  // A follower of a later attempt reads the file from its beginning.
  {
    const EventFollower again(log_, db_.get());
    Append("w0", "at the end");
  }
  const auto events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1].detail, "meanwhile");
  EXPECT_EQ(events[2].detail, "at the end");
}

}  // namespace
}  // namespace temper
