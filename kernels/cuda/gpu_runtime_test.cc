#include "kernels/cuda/gpu_runtime.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper::cuda {
namespace {

// Where there is no GPU, it is said; where there is one, it is had.
TEST(GpuRuntimeTest, IsThereOrSaysWhyNot) {
  const auto runtime = NewGpuRuntime();
  if (runtime.ok()) {
    EXPECT_NE((*runtime)->stream(), nullptr);
    return;
  }
  EXPECT_EQ(runtime.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(runtime.status().message()),
              testing::AnyOf(testing::HasSubstr("no GPU that CUDA can use"),
                             testing::HasSubstr("compiled for 9.0"),
                             testing::HasSubstr("in compute mode")));
}

}  // namespace
}  // namespace temper::cuda
