#include "tools/run/compute.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

class ComputeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    unsetenv("TEMPER_ISA");
  }
  void TearDown() override { unsetenv("TEMPER_ISA"); }
};

TEST_F(ComputeTest, AWishIsWhatTheConfigurationSays) {
  RunConfig config;
  config.set_device(RunConfig::cuda);
  config.set_numerics(RunConfig::bf16);
  config.set_threads(3);
  EXPECT_EQ(WishOf(config).device, Device::kCuda);
  EXPECT_EQ(WishOf(config).numerics, kBf16);
  config.set_numerics(RunConfig::fp8);
  EXPECT_EQ(WishOf(config).numerics, kFp8);
  EXPECT_EQ(WishOf(config).threads, 3);
  SftConfig sft;
  sft.set_device(RunConfig::cpu);
  EXPECT_EQ(WishOf(sft).device, Device::kCpu);
  EXPECT_EQ(WishOf(SftConfig()).device, std::nullopt);
  for (const Device device : {Device::kCpu, Device::kCuda}) {
    EXPECT_EQ(DeviceOf(KeyOf(device)), device);
  }
}

TEST_F(ComputeTest, AFlagSaysWhatTheKeySays) {
  EXPECT_EQ(*DeviceNamed("auto"), std::nullopt);
  EXPECT_EQ(*DeviceNamed("cuda"), Device::kCuda);
  EXPECT_THAT(std::string(DeviceNamed("gpu").status().message()),
              HasSubstr("--device gpu is none of auto | cpu | cuda"));
}

TEST_F(ComputeTest, TheVariableNamesATierAndIsNamedWhereItIsWrong) {
  EXPECT_FALSE(BackendIsNamed());
  EXPECT_EQ(VariableNaming("scalar"), "TEMPER_ISA=scalar");
  setenv("TEMPER_ISA", "scalar", 1);
  EXPECT_TRUE(BackendIsNamed());
  const auto choice = ChooseComputeBackend({});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->name, "scalar");
  EXPECT_EQ(choice->why, "named by TEMPER_ISA");
  EXPECT_THAT(
      std::string(
          ChooseComputeBackend({.device = Device::kCuda}).status().message()),
      HasSubstr("TEMPER_ISA=scalar: scalar is named, of device cpu"));
  setenv("TEMPER_ISA", "abacus", 1);
  EXPECT_THAT(std::string(CheckNamedBackend().message()),
              HasSubstr("TEMPER_ISA=abacus: "));
}

}  // namespace
}  // namespace temper
