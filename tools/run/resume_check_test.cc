#include "tools/run/resume_check.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "learner/store/run_db.h"
#include "tools/config/config.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

// A run that has a run.db alone, which says that it began with `config`.
class ResumeCheckTest : public ::testing::Test {
 protected:
  void Begin(const std::string& config) {
    dir_ = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(dir_).ok());
    const auto db = RunDb::OpenWriter(dir_ + "/run.db", SystemClock());
    ASSERT_TRUE(db.ok()) << db.status();
    RunInfo info;
    info.name = "trial";
    info.config = config;
    ASSERT_TRUE((*db)->StartRun(info).ok());
  }

  static RunConfig Config(const std::vector<std::string>& assignments) {
    RunConfig config;
    for (const char* required : {"model=m", "tasks=t", "steps=3"}) {
      EXPECT_TRUE(SetConfigValue(required, &config).ok()) << required;
    }
    for (const std::string& assignment : assignments) {
      EXPECT_TRUE(SetConfigValue(assignment, &config).ok()) << assignment;
    }
    const absl::Status resolved = ResolveConfig(&config);
    EXPECT_TRUE(resolved.ok()) << resolved;
    return config;
  }

  absl::Status Check(const std::vector<std::string>& edited) {
    const RunConfig file = Config(edited);
    return CheckGoesOn(dir_, file, file).status();
  }

  std::string dir_;
};

TEST_F(ResumeCheckTest, AConfigurationThatWasEditedByHandIsRefused) {
  Begin(Config({"domain=math:0.1"}).DebugString());
  const std::vector<std::string> same = {"domain=math:0.1"};
  EXPECT_EQ(Check(same), absl::OkStatus());
  const absl::Status refused = Check({"domain=math:0.1", "group_size=16"});
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr(dir_ + "/config.textproto: group_size is 16, and "
                               "began as 8"));
  EXPECT_THAT(std::string(Check({}).message()),
              HasSubstr("there are 0 of domain, and it began with 1"));
}

TEST_F(ResumeCheckTest, WhatMayChangeMayBeEditedAndARunMayBeMoved) {
  Begin(Config({}).DebugString());
  EXPECT_EQ(Check({"steps=9", "workers=2", "model=/moved/m", "tasks=/moved/t",
                   "runs_dir=/moved"}),
            absl::OkStatus());
}

// Of an earlier version, which had fewer keys, or one that is none any more.
TEST_F(ResumeCheckTest, AnOlderProgramsConfigurationHoldsNothingUp) {
  Begin("model: \"m\" tasks: \"t\" steps: 3");
  EXPECT_EQ(Check({}), absl::OkStatus());
  EXPECT_THAT(std::string(Check({"group_size=16"}).message()),
              HasSubstr("began as 8"));
}

TEST_F(ResumeCheckTest, OfAConfigurationThatCannotBeReadNothingIsSaid) {
  Begin("gone: 1");
  EXPECT_EQ(Check({"group_size=16"}), absl::OkStatus());
}

TEST_F(ResumeCheckTest, ARunThatHasNotBegunGoesOn) {
  dir_ = absl::StrCat(getenv("TEST_TMPDIR"), "/none");
  EXPECT_EQ(Check({}), absl::OkStatus());
}

}  // namespace
}  // namespace temper
