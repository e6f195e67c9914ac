#include "environments/cpp_compiler.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::HasSubstr;

constexpr char kAnyProgram[] = "/bin/sh";

TEST(CppCompilerTest, ACompilerAndAMemoryCgroupAreEnough) {
  EXPECT_TRUE(CanCompileCppBy(kAnyProgram, {.mode = CgroupMode::kV2}).ok());
  EXPECT_TRUE(CanCompileCppBy(kAnyProgram, {.mode = CgroupMode::kV1,
                                            .parents = {"pids", "memory"}})
                  .ok());
}

TEST(CppCompilerTest, WhatIsMissingIsNamedWithWhatToDo) {
  const auto why = [](const char* compiler, const CgroupHierarchy& cgroups) {
    const absl::Status status = CanCompileCppBy(compiler, cgroups);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(why("/nowhere/g++", {.mode = CgroupMode::kV2}),
            "/nowhere/g++: No such file or directory; install g++");
  for (const CgroupHierarchy& cgroups :
       {CgroupHierarchy{},
        CgroupHierarchy{.mode = CgroupMode::kV1, .parents = {"pids"}}}) {
    EXPECT_THAT(why(kAnyProgram, cgroups),
                HasSubstr("no cgroup holds the memory"));
  }
}

}  // namespace
}  // namespace temper
