// That the emulated device is as late as a GPU may be.

#include <memory>

#include "gtest/gtest.h"
#include "kernels/cuda/testing/test_runtime.h"

namespace temper::cuda {
namespace {

class SimtRuntimeTest : public testing::Test {
 protected:
  SimtRuntimeTest()
      : device_(static_cast<int*>(*runtime_->Allocate(sizeof(int)))),
        host_(static_cast<int*>(*runtime_->AllocateHost(2 * sizeof(int)))) {}
  ~SimtRuntimeTest() override {
    runtime_->Free(device_);
    runtime_->FreeHost(host_);
  }

  std::unique_ptr<Runtime> runtime_ = NewTestRuntime();
  int* const device_;
  int* const host_;
};

// Staging memory that is filled again before its copy has run goes up wrong.
TEST_F(SimtRuntimeTest, ACopyUpTakesWhatTheHostHasWhenItRuns) {
  host_[0] = 1;
  runtime_->CopyUp(&host_[0], device_, sizeof(int));
  host_[0] = 2;
  runtime_->CopyDown(device_, &host_[1], sizeof(int));
  runtime_->Record(0);
  ASSERT_TRUE(runtime_->Wait(0).ok());
  EXPECT_EQ(host_[1], 2);
}

TEST_F(SimtRuntimeTest, NothingIsDoneBeforeItIsWaitedFor) {
  host_[0] = 5;
  runtime_->CopyUp(&host_[0], device_, sizeof(int));
  runtime_->CopyDown(device_, &host_[1], sizeof(int));
  runtime_->Record(0);
  runtime_->Zero(device_, sizeof(int));
  runtime_->CopyDown(device_, &host_[1], sizeof(int));
  runtime_->Record(1);
  EXPECT_EQ(host_[1], 0);
  ASSERT_TRUE(runtime_->Wait(0).ok());
  EXPECT_EQ(host_[1], 5);
  ASSERT_TRUE(runtime_->Wait(1).ok());
  EXPECT_EQ(host_[1], 0);
}

TEST_F(SimtRuntimeTest, AGraphIsRunAfterItWasFreed) {
  ASSERT_TRUE(runtime_->BeginCapture().ok());
  runtime_->CopyUp(&host_[0], device_, sizeof(int));
  void* const graph = *runtime_->EndCapture();
  runtime_->Replay(graph);
  runtime_->FreeGraph(graph);
  runtime_->CopyDown(device_, &host_[1], sizeof(int));
  host_[0] = 3;
  runtime_->Record(0);
  ASSERT_TRUE(runtime_->Wait(0).ok());
  EXPECT_EQ(host_[1], 3);
}

TEST_F(SimtRuntimeTest, WhatADriverRefusesEndsTheProcess) {
  EXPECT_DEATH(runtime_->CopyDown(device_, host_, sizeof(int) + 1),
               "in no allocation");
  ASSERT_TRUE(runtime_->BeginCapture().ok());
  EXPECT_DEATH(runtime_->Free(device_), "freed in a capture");
  EXPECT_DEATH(runtime_->FreeHost(host_), "freed in a capture");
  runtime_->FreeGraph(*runtime_->EndCapture());
}

}  // namespace
}  // namespace temper::cuda
