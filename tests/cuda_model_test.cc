// The whole model by the CUDA kernels, on the emulator or a GPU, to the CPU's
// bits: goldens, sampling, a training step, zero mismatch.

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/testing/test_runtime.h"
#include "kernels/find_backend.h"
#include "kernels/ops/testing/forwarding_backend.h"
#include "rollout/engine.h"
#include "tests/delivery.h"
#include "tests/golden_values.h"
#include "tests/mismatch.h"
#include "tests/numerics_digest.h"
#include "tests/trial_model.h"

namespace temper {
namespace {

std::unique_ptr<Backend> NewCuda() {
  // On the emulator any thread at any time: what hangs on an order shows.
  auto backend = NewCudaBackend(cuda::NewTestRuntime(/*schedule=*/3));
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

std::unique_ptr<Backend> NewScalar() {
  auto backend = FindBackend({.name = "scalar"});
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

class CudaModelTest : public testing::Test {
 protected:
  void SetUp() override { SetFlushDenormals(); }
};

GoldenTensors Computed(Backend* backend, const std::string& golden) {
  auto values =
      ComputeGoldenValues(backend, absl::StrCat("tests/golden/model/", golden));
  CHECK(values.ok()) << values.status();
  return *std::move(values);
}

// Which the scalar tier meets (//tests:model_parity_test).
void ExpectGoldenAsOnTheCpu(const std::string& golden) {
  const auto device = NewCuda(), scalar = NewScalar();
  const GoldenTensors got = Computed(device.get(), golden);
  const GoldenTensors want = Computed(scalar.get(), golden);
  ASSERT_EQ(got.size(), want.size());
  ASSERT_GT(got.size(), 250u);
  for (const auto& [name, tensor] : want) {
    ASSERT_TRUE(got.contains(name)) << name;
    const auto& values = got.at(name).values;
    ASSERT_EQ(values.size(), tensor.values.size()) << name;
    EXPECT_EQ(std::memcmp(values.data(), tensor.values.data(),
                          values.size() * sizeof(values[0])),
              0)
        << name;
  }
}

TEST_F(CudaModelTest, GoldenAHasTheBitsOfTheCpu) {
  ExpectGoldenAsOnTheCpu("A");
}
TEST_F(CudaModelTest, GoldenBHasTheBitsOfTheCpu) {
  ExpectGoldenAsOnTheCpu("B");
}
TEST_F(CudaModelTest, GoldenCHasTheBitsOfTheCpu) {
  ExpectGoldenAsOnTheCpu("C");
}

TEST_F(CudaModelTest, LogitsSamplesAndTrainedWeightsAreTheCommittedOnes) {
  const auto device = NewCuda();
  for (const auto& [what, digest] : NumericsDigests(device.get(), kFp32)) {
    EXPECT_EQ(digest, CommittedDigests().at(what)) << what;
  }
}

// Counts graphs that are made and replayed.
class GraphCounter final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  absl::StatusOr<std::unique_ptr<Graph>> Capture(
      const std::function<void()>& operations) override {
    ++captured;
    return ForwardingBackend::Capture(operations);
  }
  void Replay(const Graph& graph) override {
    ++replayed;
    ForwardingBackend::Replay(graph);
  }

  int64_t captured = 0, replayed = 0;
};

// A tiny model's first conversations, short ones where time asks.
TrialModel Trial() {
  TrialModel model = TinyTrialModel();
  model.turn_tokens = 8;
  return model;
}

// What each conversation of the model is alone, on the CPU.
std::vector<SequenceRecord> Alone(const TrialModel& model, SamplerSetup setup,
                                  int count) {
  setup.together = 1;
  return SampleAll(NewScalar().get(), model, setup, count).records;
}

TEST_F(CudaModelTest, ForwardsOfOneShapeAreCapturedOnceAndReplayed) {
  const auto device = NewCuda();
  GraphCounter counter(device.get());
  SamplerSetup setup;
  setup.together = 2;
  // Chunks of as many rows, with block tables of one page, two, and four.
  setup.batch_tokens = 64;
  const Sampled sampled = SampleAll(&counter, Trial(), setup, 2);
  ExpectAsAlone(sampled, Alone(Trial(), setup, 2), "two at once");
  // The first of a shape is run, then captured.
  EXPECT_EQ(counter.captured + counter.replayed, sampled.stats.steps);
  EXPECT_GT(counter.captured, 2);
  EXPECT_LT(counter.captured, sampled.stats.steps / 2);
}

// Zero mismatch, as zero_mismatch_test has it of the CPU: what is sampled on
// the device goes as it does alone on the CPU, and is learnt on the device.
class CudaMismatchTest : public CudaModelTest {
 protected:
  CudaMismatchTest() : model_(Trial()) {
    setup_.sampling.temperature = 0.85f;
    setup_.sampling.top_p = 0.9f;
  }
  void SetUp() override {
    CudaModelTest::SetUp();
    device_ = NewCuda();
  }

  Sampled SampledAsAlone(Backend* sampler, int count, const std::string& what) {
    const Sampled sampled = SampleAll(sampler, model_, setup_, count);
    ExpectAsAlone(sampled, Alone(model_, setup_, count), what);
    return sampled;
  }
  void ExpectLearnt(Backend* learner, const Sampled& sampled,
                    const LearnerSetup& setup, const std::string& what) {
    ExpectZeroMismatch(learner, model_, sampled, setup_.sampling.temperature,
                       setup, what);
  }
  int64_t DifferentFor(Backend* learner, const Sampled& sampled,
                       const LearnerSetup& setup = {}) {
    return Compare(learner, model_, Deliver(model_.config, sampled.records),
                   setup_.sampling.temperature, setup)
        .different;
  }

  TrialModel model_;
  SamplerSetup setup_;
  std::unique_ptr<Backend> device_;
};

TEST_F(CudaMismatchTest, WhateverRunsBesideASequenceAndHowItIsCut) {
  for (const int together : {1, 3, 4}) {
    for (const int64_t batch_tokens : {67, 2048}) {
      setup_.together = together;
      setup_.batch_tokens = batch_tokens;
      const std::string what =
          absl::StrCat(together, " at once, chunks of ", batch_tokens);
      const Sampled sampled = SampledAsAlone(device_.get(), 4, what);
      EXPECT_GT(sampled.stats.scheduler.prefix_hit_tokens, 0) << what;
      if (together == 1) {
        // More forwards than tokens are those whose chunk did not reach the
        // prompt's end.
        EXPECT_EQ(sampled.stats.steps > sampled.stats.sampled_tokens,
                  batch_tokens < 2048)
            << what;
      } else {
        EXPECT_LT(sampled.stats.steps, sampled.stats.sampled_tokens) << what;
      }
      ExpectLearnt(device_.get(), sampled, {}, what);
    }
  }
}

TEST_F(CudaMismatchTest, WhetherTheLearnerSharesPrefixesOrNot) {
  const Sampled sampled = SampledAsAlone(device_.get(), 3, "sampled");
  for (const int together : {1, 3}) {
    ExpectLearnt(device_.get(), sampled, {PrefixSharing::kUnshared, together},
                 absl::StrCat(together, " at once, unshared"));
  }
  MakePromptsDiffer(&model_);
  const Sampled unlike = SampledAsAlone(device_.get(), 3, "unlike prompts");
  EXPECT_EQ(unlike.stats.scheduler.prefix_hit_tokens, 0);
  ExpectLearnt(device_.get(), unlike, {PrefixSharing::kUnshared},
               "unlike prompts");
}

TEST_F(CudaMismatchTest, WhenASequenceIsPreemptedAndResumed) {
  setup_.pages =
      static_cast<int32_t>((model_.longest() + kPageTokens - 1) / kPageTokens);
  setup_.together = 4;
  const Sampled sampled = SampledAsAlone(device_.get(), 4, "preempted");
  EXPECT_GT(sampled.stats.scheduler.preemptions, 0);
  ExpectLearnt(device_.get(), sampled, {}, "preempted");
}

TEST_F(CudaMismatchTest, WithoutTheMaskBothSidesUseTheWholeVocabulary) {
  const Sampled truncated = SampledAsAlone(device_.get(), 3, "truncated");
  setup_.mask = SamplingMask::kDrop;
  const Sampled sampled = SampledAsAlone(device_.get(), 3, "dropped");
  for (size_t s = 0; s < sampled.records.size(); ++s) {
    EXPECT_EQ(sampled.records[s].tokens, truncated.records[s].tokens);
    EXPECT_FALSE(truncated.records[s].kept_ids.empty());
    EXPECT_TRUE(sampled.records[s].kept_ids.empty());
  }
  LearnerSetup whole;
  whole.keep_sampling_mask = false;
  ExpectLearnt(device_.get(), sampled, whole, "the whole vocabulary");
  // What the sampler else records is of another distribution.
  EXPECT_GT(DifferentFor(device_.get(), truncated, whole), 0);
}

TEST_F(CudaMismatchTest, OfRowsThatNothingTruncates) {
  setup_.sampling = SampleOptions();
  const Sampled sampled = SampledAsAlone(device_.get(), 3, "whole rows");
  for (const SequenceRecord& record : sampled.records) {
    EXPECT_TRUE(record.kept_ids.empty());
  }
  ExpectLearnt(device_.get(), sampled, {}, "whole rows");
}

TEST_F(CudaMismatchTest, BetweenDevices) {
  const auto scalar = NewScalar();
  setup_.sampling = SampleOptions();
  setup_.sampling.min_p = 0.02f;
  setup_.sampling.top_k = 40;
  ExpectLearnt(scalar.get(), SampledAsAlone(device_.get(), 3, "by cuda"), {},
               "sampled by cuda, learnt on the CPU");
  ExpectLearnt(device_.get(), SampledAsAlone(scalar.get(), 3, "by the CPU"), {},
               "sampled on the CPU, learnt by cuda");
}

// The negative control: a product adds two halves of its depth where a batch
// has more than one row, as a split over K does. Both ways are right, and their
// bits differ.
class SplitBackend final : public ForwardingBackend {
 public:
  explicit SplitBackend(Backend* inner) : ForwardingBackend(inner) {
    auto room = Allocate(kRoom * static_cast<int64_t>(sizeof(float)));
    CHECK(room.ok()) << room.status();
    room_ = *std::move(room);
  }

  void SetWeight(const Tensor& values, Weight* weight) override {
    ForwardingBackend::SetWeight(values, weight);
    halves_.erase(weight);
    const int64_t in = values.dim(2), half = in / 2;
    if (values.dim(0) != 1 || half == 0) return;
    for (const Tensor& part :
         {values.Slice(2, 0, half), values.Slice(2, half, in)}) {
      auto made = NewWeight({.out = part.dim(1), .in = part.dim(2)});
      CHECK(made.ok()) << made.status();
      ForwardingBackend::SetWeight(part, made->get());
      halves_[weight].push_back(*std::move(made));
    }
  }

  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    const auto found = halves_.find(&w);
    if (x.dim(0) == 1 || use != Use::kForward || found == halves_.end()) {
      ForwardingBackend::Linear(x, w, use, y);
      return;
    }
    CHECK_LE(y.elements(), kRoom);
    const Tensor second(room_->data(), DType::kF32, {y.dim(0), y.dim(1)},
                        device());
    const int64_t in = x.dim(1), half = in / 2;
    ForwardingBackend::Linear(x.Slice(1, 0, half), *found->second[0], use, y);
    ForwardingBackend::Linear(x.Slice(1, half, in), *found->second[1], use,
                              second);
    Add(second, y);
  }

 private:
  static constexpr int64_t kRoom = 1 << 20;

  std::unique_ptr<Buffer> room_;
  std::map<const Weight*, std::vector<std::unique_ptr<Weight>>> halves_;
};

TEST_F(CudaMismatchTest, AReductionThatDependsOnTheNumberOfRowsIsCaught) {
  setup_.together = 1;  // so that the sampler's batches have a row
  SplitBackend broken(device_.get());
  const Sampled sampled = SampleAll(&broken, model_, setup_, 2);
  EXPECT_GT(DifferentFor(&broken, sampled), 0);
  // It is the rows: where both sides' batches have the same, all is well.
  const Sampled sound = SampledAsAlone(device_.get(), 2, "sound");
  EXPECT_EQ(DifferentFor(device_.get(), sound), 0);
}

}  // namespace
}  // namespace temper
