#include "learner/store/run_records.h"

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using testing::HasSubstr;

class RunRecordsTest : public testing::Test {
 protected:
  void SetUp() override {
    static int next = 0;
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/records", next++);
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    info_.name = "trial";
  }

  std::unique_ptr<RunRecords> Start() {
    return *RunRecords::Start(directory_, info_, &clock_);
  }
  absl::StatusOr<std::unique_ptr<RunRecords>> Resume() {
    return RunRecords::Resume(directory_, info_, &clock_);
  }
  // A checkpoint of the first attempt at step 0, of weight version 7.
  static absl::Status Write(const std::string& directory) {
    return WriteFileDurably(directory + "/state.json",
                            "{\"attempt\": 1, \"step\": 0, "
                            "\"weight_version\": 7, \"optimizer_steps\": 3}");
  }
  static void ExpectFromStepZero(RunRecords* records, int64_t attempt) {
    EXPECT_EQ(records->counters().step, 0);
    EXPECT_EQ(records->counters().weight_version, 0u);
    EXPECT_EQ(records->counters().attempt, attempt);
    EXPECT_FALSE(records->checkpoint().has_value());
    EXPECT_EQ(*records->db()->CurrentAttempt(), attempt);
  }

  FakeClock clock_;
  RunInfo info_;
  std::string directory_;
};

TEST_F(RunRecordsTest, AResumeGoesOnFromTheNewestCheckpoint) {
  ASSERT_TRUE(Start()->SaveCheckpoint(0, Write).ok());
  const auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ((*records)->counters().weight_version, 7u);
  EXPECT_EQ((*records)->counters().attempt, 2);
  EXPECT_EQ((*records)->checkpoint(), directory_ + "/checkpoints/step_0");
  // It is of the newest step already.
  EXPECT_TRUE((*records)
                  ->SaveCheckpoint(0,
                                   [](const std::string&) {
                                     return absl::InternalError("written");
                                   })
                  .ok());
}

TEST_F(RunRecordsTest, EachAttemptHasTheConfigurationItRunsWith) {
  info_.config = "steps: 60";
  info_.revision = "first";
  Start().reset();
  info_.config = "steps: 100";
  info_.revision = "second";
  const auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ((*records)->db()->ReadRun()->config, "steps: 100");
  EXPECT_EQ((*records)->db()->ReadRun()->revision, "second");
  auto transaction = *(*records)->db()->sqlite()->Begin();
  const auto rows = *transaction->Query(
      "SELECT config, revision FROM attempt ORDER BY attempt");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0][0].AsString(), "steps: 60");
  EXPECT_EQ(rows[0][1].AsString(), "first");
}

TEST_F(RunRecordsTest, AResumeInOtherNumericsOrOnAnotherDeviceIsRefused) {
  info_.numerics = "fp32";
  info_.device = "cuda";
  Start().reset();
  info_.device = "cpu";
  const absl::Status other_device = Resume().status();
  EXPECT_TRUE(absl::IsInvalidArgument(other_device)) << other_device;
  EXPECT_THAT(std::string(other_device.message()),
              HasSubstr("fp32 on cuda and would go on in fp32 on cpu"));
  info_.device = "cuda";
  info_.numerics = "bf16";
  EXPECT_TRUE(absl::IsInvalidArgument(Resume().status()));
  info_.numerics = "fp32";
  const auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ((*records)->counters().attempt, 2);  // refusals began none
}

// Nobody wrote them down: the first resume does.
TEST_F(RunRecordsTest, AnOlderRunsNumericsAreThoseOfItsNextAttempt) {
  Start().reset();
  info_.numerics = "bf16";
  {
    const auto records = Resume();
    ASSERT_TRUE(records.ok()) << records.status();
    EXPECT_EQ((*records)->db()->ReadRun()->numerics, "bf16");
    EXPECT_EQ((*records)->db()->ReadRun()->device, "cpu");
  }
  info_.numerics = "fp32";
  EXPECT_TRUE(absl::IsInvalidArgument(Resume().status()));
}

TEST_F(RunRecordsTest, ARunThatDiedBeforeItsFirstCheckpointGoesOnFromStepZero) {
  Start().reset();
  auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  ExpectFromStepZero(records->get(), 2);
  ASSERT_TRUE((*records)->SaveCheckpoint(0, Write).ok());
}

TEST_F(RunRecordsTest, ARunThatDiedBeforeItBeganBegins) {
  ASSERT_TRUE(RunDb::OpenWriter(directory_ + "/run.db", &clock_).ok());
  auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  ExpectFromStepZero(records->get(), 2);
  EXPECT_EQ((*records)->db()->ReadRun()->name, "trial");
}

TEST_F(RunRecordsTest, ADamagedOnlyCheckpointIsAnErrorNotABeginning) {
  ASSERT_TRUE(Start()->SaveCheckpoint(0, Write).ok());
  ASSERT_TRUE(
      WriteFileDurably(directory_ + "/checkpoints/step_0/state.json", "x")
          .ok());
  const auto records = Resume();
  EXPECT_TRUE(absl::IsNotFound(records.status()));
  EXPECT_THAT(std::string(records.status().message()), HasSubstr("step_0"));
}

TEST_F(RunRecordsTest, AFaultOfRunDbIsNoCheckpointsFault) {
  {
    const auto records = Start();
    ASSERT_TRUE(records->SaveCheckpoint(0, Write).ok());
    ASSERT_TRUE(records->SaveCheckpoint(1, Write).ok());
    ASSERT_TRUE(
        records->db()->sqlite()->Execute("DROP VIEW lineage_step").ok());
  }
  const absl::Status status = Resume().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("step_1 cannot be "));
}

TEST_F(RunRecordsTest, StepsWithoutACheckpointAreAnErrorNotABeginning) {
  auto records = Start();
  ASSERT_TRUE(records->db()
                  ->sqlite()
                  ->Execute("INSERT INTO step VALUES (1, 1, 1, 1, 1, 0, 0)")
                  .ok());
  records.reset();
  EXPECT_TRUE(absl::IsNotFound(Resume().status()));
}

TEST_F(RunRecordsTest, ASecondStartIsRefused) {
  Start().reset();
  EXPECT_TRUE(absl::IsAlreadyExists(
      RunRecords::Start(directory_, info_, &clock_).status()));
}

TEST_F(RunRecordsTest, OtherTasksThanTheRunBeganWithAreRefused) {
  info_.tasks_sha256 = "11aa";
  { Start(); }
  info_.tasks_sha256 = "22bb";
  const absl::Status refused = Resume().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr(directory_ + "/tasks.jsonl has changed since the run "
                                     "began: its SHA-256 is 22bb, run.db has "
                                     "11aa"));
  info_.tasks_sha256 = "11aa";
  const auto records = Resume();
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ((*records)->counters().attempt, 2) << "the refusal left an attempt";
}

TEST_F(RunRecordsTest, ARunWithoutADigestTakesThatOfItsNextAttempt) {
  { Start(); }
  info_.tasks_sha256 = "11aa";
  { ASSERT_TRUE(Resume().ok()); }
  info_.tasks_sha256 = "22bb";
  EXPECT_FALSE(Resume().ok());
}

TEST_F(RunRecordsTest, TheDigestIsThatOfTheFile) {
  EXPECT_TRUE(absl::IsNotFound(TasksSha256(directory_).status()));
  const std::string text((1 << 20) + 5, 'x');
  ASSERT_TRUE(WriteFileDurably(directory_ + "/tasks.jsonl", text).ok());
  EXPECT_EQ(*TasksSha256(directory_), HexOf(Sha256Of(text)));
}

}  // namespace
}  // namespace temper
