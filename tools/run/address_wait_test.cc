#include "tools/run/address_wait.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tools/run/stop_signal.h"

namespace temper {
namespace {

AddressWait WaitFor(const std::string& name) {
  EXPECT_TRUE(InstallStopSignal().ok());
  AddressWait wait;
  wait.path = absl::StrCat(getenv("TEST_TMPDIR"), "/", name);
  wait.absent_ms_max = 20;
  wait.total_ms_max = 60'000;
  return wait;
}

TEST(AddressWaitTest, TheAddressIsWhatTheFileSays) {
  const AddressWait wait = WaitFor("there");
  ASSERT_TRUE(WriteFileDurably(wait.path, "127.0.0.1:7\n").ok());
  const auto address = AwaitAddress(wait);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "127.0.0.1:7");
}

// A learner with a large run.db or model.
TEST(AddressWaitTest, WhoIsSeenAtWorkIsWaitedForPastTheLimit) {
  AddressWait wait = WaitFor("slow");
  int looks = 0;
  wait.at_work = [&] {
    // Far more looks than the limit has room for.
    if (++looks < 4) return true;
    EXPECT_TRUE(WriteFileDurably(wait.path, "here").ok());
    return true;
  };
  const auto address = AwaitAddress(wait);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "here");
}

TEST(AddressWaitTest, WhoIsNotSeenAtWorkIsGivenUp) {
  AddressWait wait = WaitFor("nobody");
  EXPECT_EQ(AwaitAddress(wait).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  wait.at_work = [] { return false; };
  const absl::Status status = AwaitAddress(wait).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(std::string(status.message()).find(wait.path), std::string::npos);
}

TEST(AddressWaitTest, NobodyIsWaitedForWithoutEnd) {
  AddressWait wait = WaitFor("never");
  wait.at_work = [] { return true; };
  wait.total_ms_max = 200;
  EXPECT_EQ(AwaitAddress(wait).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace temper
