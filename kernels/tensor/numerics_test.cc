#include "kernels/tensor/numerics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(NumericsTest, NamesGoToValuesAndBack) {
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    const auto named = NumericsNamed(NameOf(numerics));
    ASSERT_TRUE(named.ok()) << named.status();
    EXPECT_EQ(*named, numerics);
  }
  EXPECT_EQ(NumericsNamed("fp32")->operand, DType::kF32);
  EXPECT_EQ(NumericsNamed("bf16")->operand, DType::kBF16);
  EXPECT_EQ(NumericsNamed("fp8")->operand, DType::kF8E4M3);
}

TEST(NumericsTest, Fp8AloneRotatesAndHasTwoTypesOfOperands) {
  EXPECT_TRUE(kFp8.rotates());
  EXPECT_EQ(kFp8.unscaled, DType::kBF16);
  for (const Numerics& numerics : {kFp32, kBf16}) {
    EXPECT_FALSE(numerics.rotates());
    EXPECT_EQ(numerics.unscaled, numerics.operand);
  }
}

TEST(NumericsTest, AnotherNameIsRefusedWithThoseThereAre) {
  for (const char* name : {"", "FP32", "fp16", "bf16 ", "e4m3"}) {
    const auto refused = NumericsNamed(name).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(refused.message()),
                ::testing::HasSubstr("none of fp32 | bf16 | fp8"));
  }
}

}  // namespace
}  // namespace temper
