#include "kernels/find_backend.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/tensor/numerics.h"

namespace temper {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

GpuSurvey AnH100() {
  GpuSurvey survey;
  survey.driver = "580.1, CUDA 13.0";
  survey.devices = {{"NVIDIA H100", int64_t{80} << 30, ""}};
  return survey;
}

GpuSurvey NoDevice() {
  GpuSurvey survey;
  survey.driver = "580.1, CUDA 13.0";
  survey.missing = "no GPU at all";
  survey.remedy = "plug one in";
  return survey;
}

GpuSurvey NobodyAsks() {
  ADD_FAILURE() << "the driver was started";
  return {};
}

std::string Refusal(const BackendWish& wish, GpuSurvey (*survey)()) {
  const auto choice = ChooseBackend(wish, survey);
  EXPECT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(choice.status().message());
}

class FindBackendTest : public ::testing::Test {
 protected:
  void SetUp() override { SetFlushDenormals(); }
};

TEST_F(FindBackendTest, AReportSaysOfEachGpuWhatItComputesIn) {
  GpuSurvey survey = AnH100();
  survey.devices.push_back({"NVIDIA A100", int64_t{40} << 30, "is too old"});
  EXPECT_EQ(WordsOf(survey),
            "NVIDIA H100, 81920 MiB, computes in fp32; NVIDIA A100, 40960 MiB, "
            "is too old; driver 580.1, CUDA 13.0; the first is computed on");
  EXPECT_EQ(WordsOf(NoDevice()),
            "driver 580.1, CUDA 13.0; none is computed on: no GPU at all; plug "
            "one in");
}

// Whatever this machine and this build are: a GPU, or one line that says what
// is missing.
TEST_F(FindBackendTest, CudaIsThereOrSaysWhatIsMissing) {
  const auto backend = FindBackend({.name = "cuda"});
  const auto choice = ChooseBackend({.name = "cuda"});
  EXPECT_EQ(choice.ok(), backend.ok()) << choice.status();
  if (backend.ok()) {
    EXPECT_EQ((*backend)->device(), Device::kCuda);
    return;
  }
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition);
  for (const absl::Status& status : {backend.status(), choice.status()}) {
    EXPECT_THAT(
        std::string(status.message()),
        AnyOf(HasSubstr("--config=cuda"), HasSubstr("no GPU that CUDA can use"),
              HasSubstr("compiled for 9.0")));
  }
}

TEST_F(FindBackendTest, AGpuIsNoTier) {
  EXPECT_THAT(BackendNames(), Not(Contains("cuda")));
  EXPECT_TRUE(CheckBackendName("cuda").ok());
  EXPECT_TRUE(CheckBackendName("").ok());
  EXPECT_TRUE(CheckBackendName("scalar").ok());
  EXPECT_FALSE(CheckBackendName("abacus").ok());
}

TEST_F(FindBackendTest, NothingSaidTakesTheGpuThatIsThere) {
  const auto choice = ChooseBackend({}, AnH100);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->name, "cuda");
  EXPECT_EQ(choice->device, Device::kCuda);
  EXPECT_EQ(choice->why, "NVIDIA H100, 81920 MiB, driver 580.1, CUDA 13.0");
  EXPECT_EQ(choice->gpu_memory_bytes, int64_t{80} << 30);
}

TEST_F(FindBackendTest, NothingSaidTakesTheCpuWithoutOneAndSaysWhy) {
  const auto choice = ChooseBackend({}, NoDevice);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->device, Device::kCpu);
  EXPECT_THAT(BackendNames(), Contains(choice->name));
  EXPECT_THAT(choice->why, HasSubstr("; no GPU at all"));
}

TEST_F(FindBackendTest, NothingSaidTakesTheCpuForWhatCudaCannotCompute) {
  for (const Numerics& numerics : {kBf16, kFp8}) {
    const auto choice = ChooseBackend({.numerics = numerics}, NobodyAsks);
    ASSERT_TRUE(choice.ok()) << choice.status();
    EXPECT_EQ(choice->device, Device::kCpu);
    EXPECT_THAT(choice->why, HasSubstr(absl::StrCat("; cuda has no kernels of ",
                                                    NameOf(numerics), " yet")));
  }
}

TEST_F(FindBackendTest, CudaAskedForIsHadOrRefusedByWhatIsMissing) {
  for (const BackendWish& wish :
       {BackendWish{.device = Device::kCuda}, BackendWish{.name = "cuda"},
        BackendWish{.name = "cuda", .device = Device::kCuda}}) {
    EXPECT_EQ(ChooseBackend(wish, AnH100)->name, "cuda");
    EXPECT_THAT(Refusal(wish, NoDevice),
                HasSubstr(wish.name.empty()
                              ? "cuda: no GPU at all; plug one in, or set "
                                "device to cpu"
                              : "cuda: no GPU at all; plug one in, or name a "
                                "tier of the CPU"));
  }
  for (const Numerics& numerics : {kBf16, kFp8}) {
    EXPECT_THAT(
        Refusal({.device = Device::kCuda, .numerics = numerics}, NobodyAsks),
        HasSubstr(absl::StrCat("no kernels of ", NameOf(numerics),
                               " yet; set numerics to fp32, or set device to "
                               "cpu")));
  }
}

TEST_F(FindBackendTest, ARefusalSaysWhatElseWhoeverAsksCanDo) {
  const std::string refusal =
      Refusal({.device = Device::kCuda, .otherwise = "begin anew"}, NoDevice);
  EXPECT_THAT(refusal, HasSubstr("plug one in, or begin anew"));
  EXPECT_THAT(refusal, Not(HasSubstr("device to cpu")));
}

// Nor is the driver started for it: that makes threads.
TEST_F(FindBackendTest, TheCpuAskedForIsTakenWhateverElseThereIs) {
  EXPECT_EQ(ChooseBackend({.name = "scalar"}, NobodyAsks)->name, "scalar");
  const auto choice = ChooseBackend({.device = Device::kCpu}, NobodyAsks);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->device, Device::kCpu);
  EXPECT_THAT(choice->why, Not(HasSubstr("cuda")));
  EXPECT_EQ(choice->gpu_memory_bytes, 0);
}

TEST_F(FindBackendTest, ANameAndADeviceThatAreNotOfEachOtherAreRefused) {
  EXPECT_THAT(Refusal({.name = "scalar", .device = Device::kCuda}, NobodyAsks),
              HasSubstr("scalar is named, of device cpu, and device is cuda"));
  EXPECT_THAT(Refusal({.name = "cuda", .numerics = kBf16}, NobodyAsks),
              HasSubstr("or name a tier of the CPU"));
  EXPECT_THAT(Refusal({.name = "cuda", .device = Device::kCpu}, NobodyAsks),
              HasSubstr("cuda is named, of device cuda, and device is cpu"));
}

}  // namespace
}  // namespace temper
