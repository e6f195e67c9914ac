#include "tools/isa.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

constexpr CpuFeatures kAll = {.avx2 = true, .fma = true};
constexpr CpuFeatures kFmaOnly = {.avx2 = false, .fma = true};

std::string Refusal(const char* requested, const CpuFeatures& cpu) {
  const auto isa = ChooseIsa(requested, cpu);
  EXPECT_EQ(isa.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(isa.status().message());
}

TEST(IsaTest, BestTierThatTheCpuHasIsChosen) {
  EXPECT_EQ(*ChooseIsa(nullptr, kAll), Isa::kAvx2);
  EXPECT_EQ(*ChooseIsa("", kAll), Isa::kAvx2);
  EXPECT_EQ(*ChooseIsa(nullptr, kFmaOnly), Isa::kScalar);
}

TEST(IsaTest, NamedTierIsForced) {
  EXPECT_EQ(*ChooseIsa("scalar", kAll), Isa::kScalar);
  EXPECT_EQ(*ChooseIsa("avx2", kAll), Isa::kAvx2);
}

TEST(IsaTest, TierThatIsMissingIsRefusedNamingThoseThereAre) {
  EXPECT_THAT(Refusal("avx512", kAll), HasSubstr("not in this version"));
  EXPECT_THAT(Refusal("avx512_bf16", kAll), HasSubstr("scalar, avx2"));
  EXPECT_THAT(Refusal("avx2", kFmaOnly), HasSubstr("not on this CPU"));
  EXPECT_THAT(Refusal("AVX2", kAll), HasSubstr("no tier"));
}

TEST(IsaTest, CpuWithoutFmaIsRefused) {
  const auto isa = ChooseIsa(nullptr, CpuFeatures());
  EXPECT_EQ(isa.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace temper
