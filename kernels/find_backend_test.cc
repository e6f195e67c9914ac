#include "kernels/find_backend.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"

namespace temper {
namespace {

// Whatever this machine and this build are: a GPU, or one line that says what
// is missing.
TEST(FindBackendTest, CudaIsThereOrSaysWhatIsMissing) {
  SetFlushDenormals();
  EXPECT_EQ(ChooseBackend("cuda")->name, "cuda");
  const auto backend = FindBackend({.name = "cuda"});
  if (backend.ok()) {
    EXPECT_EQ((*backend)->device(), Device::kCuda);
    return;
  }
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(backend.status().message()),
              testing::AnyOf(testing::HasSubstr("--config=cuda"),
                             testing::HasSubstr("no GPU that CUDA can use"),
                             testing::HasSubstr("compiled for 9.0")));
}

TEST(FindBackendTest, AGpuIsNoTierAndNeverTakenUnasked) {
  EXPECT_THAT(BackendNames(), testing::Not(testing::Contains("cuda")));
  EXPECT_NE(ChooseBackend("")->name, "cuda");
}

}  // namespace
}  // namespace temper
