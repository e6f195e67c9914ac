#include "kernels/tensor/numerics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(NumericsTest, NamesGoToValuesAndBack) {
  for (const Numerics& numerics : {kFp32, kBf16}) {
    const auto named = NumericsNamed(NameOf(numerics));
    ASSERT_TRUE(named.ok()) << named.status();
    EXPECT_EQ(*named, numerics);
  }
  EXPECT_EQ(NumericsNamed("fp32")->operand, DType::kF32);
  EXPECT_EQ(NumericsNamed("bf16")->operand, DType::kBF16);
}

TEST(NumericsTest, Fp8AloneRotatesAndHasTwoTypesOfOperands) {
  EXPECT_EQ(NameOf(kFp8), "fp8");
  EXPECT_TRUE(kFp8.rotates());
  EXPECT_EQ(kFp8.unscaled, DType::kBF16);
  for (const Numerics& numerics : {kFp32, kBf16}) {
    EXPECT_FALSE(numerics.rotates());
    EXPECT_EQ(numerics.unscaled, numerics.operand);
  }
}

TEST(NumericsTest, Fp8IsRefusedByNameAndTheRestAsUnknown) {
  const auto fp8 = NumericsNamed("fp8").status();
  EXPECT_EQ(fp8.code(), absl::StatusCode::kUnimplemented);
  // A configuration's key says the same (tools/config).
  EXPECT_EQ(std::string(fp8.message()),
            "numerics fp8 is not in this version; set numerics to fp32 or "
            "bf16");
  for (const char* name : {"", "FP32", "fp16", "bf16 "}) {
    EXPECT_EQ(NumericsNamed(name).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

}  // namespace
}  // namespace temper
