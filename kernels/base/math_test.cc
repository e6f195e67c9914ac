#include "kernels/base/math.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"

namespace temper {
namespace {

// Distance in units of the last place of `expected`, which libm computes in
// 80 bits.
double Ulps(double actual, long double expected) {
  const double rounded = static_cast<double>(expected);
  const double ulp =
      std::nextafter(std::fabs(rounded), INFINITY) - std::fabs(rounded);
  return static_cast<double>(std::fabs(actual - expected) / ulp);
}

TEST(MathTest, ExpAndExpm1AreWithinHalfAnUlp) {
  for (double x = -700; x < 700; x += 0.731) {
    EXPECT_LT(Ulps(Exp(x), std::exp(static_cast<long double>(x))), 0.51) << x;
    EXPECT_LT(Ulps(Expm1(x), std::expm1(static_cast<long double>(x))), 0.51);
  }
  for (double x = -1; x < 1; x += 0.00137) {
    EXPECT_LT(Ulps(Expm1(x), std::expm1(static_cast<long double>(x))), 0.51)
        << x;
  }
  EXPECT_EQ(Exp(0), 1);
  EXPECT_EQ(Exp(-800), 0);
  EXPECT_EQ(Exp(800), INFINITY);
  EXPECT_EQ(Exp(-INFINITY), 0);
}

TEST(MathTest, LogIsWithinHalfAnUlp) {
  for (double x = 1e-300; x < 1e300; x *= 1.931) {
    EXPECT_LT(Ulps(Log(x), std::log(static_cast<long double>(x))), 0.51) << x;
  }
  for (double x = 0.5; x < 2; x += 0.00137) {
    EXPECT_LT(Ulps(Log(x), std::log(static_cast<long double>(x))), 0.51) << x;
  }
  EXPECT_EQ(Log(1), 0);
  EXPECT_EQ(Log(0), -INFINITY);
  EXPECT_TRUE(std::isnan(Log(-1)));
}

TEST(MathTest, SinAndCosAreWithinHalfAnUlpOfOneAtAnyPosition) {
  for (double x = -200000; x < 200000; x += 17.77) {
    EXPECT_NEAR(Sin(x), std::sin(static_cast<long double>(x)), 0x1p-53) << x;
    EXPECT_NEAR(Cos(x), std::cos(static_cast<long double>(x)), 0x1p-53) << x;
  }
  EXPECT_EQ(Sin(0), 0);
  EXPECT_EQ(Cos(0), 1);
}

TEST(MathTest, PowIsWithinTwoUlps) {
  for (double y = -1; y <= 1; y += 0.0137) {
    EXPECT_LT(Ulps(Pow(10000, y), std::pow(10000.0L, y)), 2) << y;
    EXPECT_LT(Ulps(Pow(0.95, 1000 * y),
                   std::pow(static_cast<long double>(0.95), 1000 * y)),
              2)
        << y;
  }
  EXPECT_EQ(Pow(2, 10), 1024);
  EXPECT_EQ(Pow(0, 2), 0);
}

TEST(MathTest, TheFloatModeDoesNotMatter) {
  const double before[] = {Exp(-1.25), Log(0.3), Sin(3), Pow(0.999, 77)};
  SetFlushDenormals();
  const double after[] = {Exp(-1.25), Log(0.3), Sin(3), Pow(0.999, 77)};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(before[i], after[i]);
  EXPECT_EQ(Exp(-708.5), 0);  // would be denormal
}

}  // namespace
}  // namespace temper
