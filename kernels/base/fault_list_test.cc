#include "kernels/base/fault_list.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(FaultListTest, OneFaultIsToldAlone) {
  FaultList faults;
  EXPECT_TRUE(faults.status("of 3").ok());
  faults.Add("f:7: no");
  EXPECT_EQ(faults.status("of 3"), absl::InvalidArgumentError("f:7: no"));
}

TEST(FaultListTest, TheFirstAreListedAndTheOthersCounted) {
  FaultList faults;
  std::string expected = "12 of 20 are wrong:";
  for (int i = 0; i < 12; ++i) {
    faults.Add(absl::StrCat("f:", i, ": no"));
    if (i < 10) absl::StrAppend(&expected, "\n  f:", i, ": no");
  }
  const absl::Status status = faults.status("12 of 20 are wrong:");
  EXPECT_EQ(status.message(), expected + "\n  and 2 more");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(ShownMessage(status), expected + "\n  and 2 more");
  EXPECT_EQ(faults.count(), 12);
}

// Two blanks in front make a line of outside text look like one of ours.
TEST(FaultListTest, OutsideTextBeginsNoLine) {
  FaultList faults;
  faults.Add("f:1: task a\n  f:2: all others are fine");
  EXPECT_EQ(ShownMessage(faults.status("title")),
            "f:1: task a\\n  f:2: all others are fine");
  faults.Add("f:3: \x1b[2J");
  EXPECT_EQ(ShownMessage(faults.status("g\n  h")),
            "g\\n  h\n  f:1: task a\\n  f:2: all others are fine\n"
            "  f:3: \\x1b[2J");
}

TEST(FaultListTest, AnyOtherMessageIsOneLine) {
  EXPECT_EQ(ShownMessage(absl::NotFoundError("unknown key a\n  b\x07")),
            "unknown key a\\n  b\\x07");
}

}  // namespace
}  // namespace temper
