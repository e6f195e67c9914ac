// The whole model by the CUDA kernels, on the emulator or a GPU, to the CPU's
// bits: goldens, sampling, a training step, zero mismatch.

#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/testing/test_runtime.h"
#include "kernels/find_backend.h"
#include "kernels/ops/testing/forwarding_backend.h"
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

// Sampled by `sampler`, learnt by `learner`, to the bit.
void ExpectZeroMismatch(Backend* sampler, Backend* learner,
                        const SamplerSetup& setup, int count,
                        const std::vector<SequenceRecord>& alone,
                        const std::string& what) {
  const TrialModel model = Trial();
  const Sampled sampled = SampleAll(sampler, model, setup, count);
  for (size_t s = 0; s < sampled.records.size(); ++s) {
    EXPECT_TRUE(SameRecord(sampled.records[s], alone[s]))
        << what << ": conversation " << s << " went another way";
  }
  const Comparison comparison =
      Compare(learner, model, Deliver(model.config, sampled.records),
              setup.sampling.temperature, {});
  EXPECT_GT(comparison.tokens, 2 * count) << what;
  EXPECT_EQ(comparison.different, 0)
      << what << ": of " << comparison.tokens << " tokens";
}

// What each conversation of the model is alone, on the CPU.
std::vector<SequenceRecord> Alone(const SamplerSetup& like, int count) {
  SamplerSetup setup = like;
  setup.together = 1;
  return SampleAll(NewScalar().get(), Trial(), setup, count).records;
}

TEST_F(CudaModelTest, ForwardsOfOneShapeAreCapturedOnceAndReplayed) {
  const auto device = NewCuda();
  GraphCounter counter(device.get());
  SamplerSetup setup;
  setup.together = 2;
  // Chunks of as many rows, with block tables of one page, two, and four.
  setup.batch_tokens = 64;
  const auto alone = Alone(setup, 2);
  const Sampled sampled = SampleAll(&counter, Trial(), setup, 2);
  for (size_t s = 0; s < sampled.records.size(); ++s) {
    EXPECT_TRUE(SameRecord(sampled.records[s], alone[s])) << s;
  }
  EXPECT_EQ(counter.replayed, sampled.stats.steps);
  EXPECT_GT(counter.captured, 2);
  EXPECT_LT(counter.captured, sampled.stats.steps / 2);
}

TEST_F(CudaModelTest, NoMismatchWhateverRunsBesideASequenceAndHowItIsCut) {
  const auto device = NewCuda(), scalar = NewScalar();
  SamplerSetup setup;
  setup.sampling.temperature = 0.85f;
  setup.sampling.top_p = 0.9f;
  const auto alone = Alone(setup, 4);
  for (const int together : {1, 3, 4}) {
    for (const int64_t batch_tokens : {67, 2048}) {
      setup.together = together;
      setup.batch_tokens = batch_tokens;
      ExpectZeroMismatch(
          device.get(), device.get(), setup, 4, alone,
          absl::StrCat(together, " at once, chunks of ", batch_tokens));
    }
  }
  setup.pages = static_cast<int32_t>((Trial().longest() + 63) / 64);
  ExpectZeroMismatch(device.get(), device.get(), setup, 4, alone, "preempted");
}

TEST_F(CudaModelTest, NoMismatchBetweenDevices) {
  const auto device = NewCuda(), scalar = NewScalar();
  SamplerSetup setup;
  setup.sampling.min_p = 0.02f;
  setup.sampling.top_k = 40;
  const auto alone = Alone(setup, 3);
  ExpectZeroMismatch(device.get(), scalar.get(), setup, 3, alone,
                     "sampled by cuda, learnt on the CPU");
  ExpectZeroMismatch(scalar.get(), device.get(), setup, 3, alone,
                     "sampled on the CPU, learnt by cuda");
}

}  // namespace
}  // namespace temper
