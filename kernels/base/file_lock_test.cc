#include "kernels/base/file_lock.h"

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(FileLockTest, OneHolderAtATimeAndTheNextAfterIt) {
  const std::string path = std::string(getenv("TEST_TMPDIR")) + "/lock";
  auto first = FileLock::Take(path);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(FileLock::Take(path).status()));
  first->reset();
  EXPECT_TRUE(FileLock::Take(path).ok());
  EXPECT_TRUE(absl::IsNotFound(
      FileLock::Take(std::string(getenv("TEST_TMPDIR")) + "/no/lock")
          .status()));
}

}  // namespace
}  // namespace temper
