#include "kernels/base/signal_name.h"

#include <signal.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(SignalNameTest, NamesTheLimitThatASignalMeans) {
  EXPECT_EQ(DescribeSignal(25),
            "signal 25 (SIGXFSZ: a file grew past the limit on its size, "
            "ulimit -f)");
  EXPECT_THAT(DescribeSignal(SIGXCPU), HasSubstr("SIGXCPU: past the limit"));
  EXPECT_THAT(DescribeSignal(SIGKILL), HasSubstr("memory ran out"));
}

TEST(SignalNameTest, EverySignalHasItsNumber) {
  EXPECT_EQ(DescribeSignal(SIGTERM), "signal 15 (SIGTERM)");
  for (int number = 0; number < 70; ++number) {
    EXPECT_THAT(DescribeSignal(number),
                StartsWith("signal " + std::to_string(number)));
  }
}

}  // namespace
}  // namespace temper
