#include "kernels/cpu/tier.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/tier_self_test.h"

namespace temper {
namespace {

float DotInOrder(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum = __builtin_fmaf(a[i], b[i], sum);
  return sum;
}

TEST(TierTest, ATierThatSumsInAnotherOrderIsRefusedByName) {
  SetFlushDenormals();
  TierKernels other = *ScalarKernels();
  EXPECT_TRUE(TestTier(other, *ScalarKernels()).ok());
  other.dot = DotInOrder;
  const absl::Status status = TestTier(other, *ScalarKernels());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("dot"));
}

TEST(TierTest, ATierThatKeepsDenormalsIsRefused) {
  SetFlushDenormals();
  TierKernels other = *ScalarKernels();
  other.scale = [](float factor, float* x, int64_t n) {
    _mm_setcsr(_mm_getcsr() & ~kFlushDenormalsBits);
    ScalarKernels()->scale(factor, x, n);
    SetFlushDenormals();
  };
  EXPECT_FALSE(TestTier(other, *ScalarKernels()).ok());
}

TEST(TierTest, ExpIsWithinTwoUlpsAndZeroBelowItsRange) {
  SetFlushDenormals();
  std::vector<float> x, y;
  for (float value = -86.5f; value < 88.5f; value += 0.0137f) {
    x.push_back(value);
  }
  y.resize(x.size());
  ScalarKernels()->exp(x.data(), 0, y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    EXPECT_NEAR(y[i] / want, 1, 2 * 0x1p-23) << x[i];
  }
  const float edges[] = {0, -0.0f, -86.51f, -INFINITY, 89, INFINITY, NAN};
  float out[7];
  ScalarKernels()->exp(edges, 0, out, 7);
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[1], 1);
  EXPECT_EQ(out[2], 0);
  EXPECT_EQ(out[3], 0);
  EXPECT_EQ(out[4], INFINITY);
  EXPECT_EQ(out[5], INFINITY);
  EXPECT_TRUE(std::isnan(out[6]));
}

TEST(TierTest, NamesAreParsedAndPlacesKept) {
  EXPECT_EQ(*ParseTier("scalar"), Tier::kScalar);
  EXPECT_EQ(ParseTier("avx512").status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ParseTier("avx512_bf16").status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ParseTier("sse").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TierDeathTest, ACallerThatKeepsDenormalsIsRefused) {
  EXPECT_DEATH(
      {
        _mm_setcsr(_mm_getcsr() & ~kFlushDenormalsBits);
        NewCpuBackend(Tier::kScalar, 1).IgnoreError();
      },
      "SetFlushDenormals");
}

}  // namespace
}  // namespace temper
