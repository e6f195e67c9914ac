// What the plan promises: the bytes it counts are enough, and after the first
// step nothing is allocated.

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/testing/counting_backend.h"

namespace temper {
namespace {

constexpr int64_t kTokensMax = 100;

void ExpectPlannedBytesAreEnough(const Numerics& numerics) {
  const ModelConfig config = TinyConfig();
  auto inner = *FindBackend({});
  CountingBackend backend(inner.get());
  auto weights =
      RandomModel(&backend, config, 1, Passes::kForwardAndBackward, numerics);
  auto gradients = *ModelGradients::Create(&backend, config);
  auto dhidden = *backend.Allocate(kTokensMax * config.hidden_size * 4);
  auto agreement = *backend.Allocate(sizeof(int64_t));
  const int64_t before = backend.allocated_bytes();
  auto model = *Transformer::Create(&backend, weights.get(), kTokensMax);
  auto tape = *model->NewTape(kTokensMax);
  const auto step = [&](int64_t tokens) {
    TrainingBatch made =
        MakeTrainingBatch(config, {{RandomTokens(config, 1, tokens)}});
    Tensor hidden;
    ForwardOptions options;
    options.agreement =
        Tensor(agreement->data(), DType::kI64, {1}, backend.device());
    ASSERT_TRUE(
        model->Forward(&made.batch, nullptr, tape.get(), options, &hidden)
            .ok());
    std::vector<std::vector<float>> kl;
    ASSERT_TRUE(model
                    ->IndexerLoss(tape.get(), std::vector<float>(tokens, 1),
                                  &kl, gradients.get())
                    .ok());
    model->Backward(
        tape.get(),
        Tensor(dhidden->data(), DType::kF32, {tokens, config.hidden_size}),
        gradients.get());
  };
  step(kTokensMax);
  EXPECT_GT(backend.allocated_bytes(), before);
  EXPECT_LE(backend.allocated_bytes() - before,
            Transformer::TrainingBytes(config, numerics, kTokensMax));
  const int64_t allocations = backend.allocations();
  step(kTokensMax);
  step(kTokensMax / 2);
  step(kTokensMax);
  EXPECT_EQ(backend.allocations(), allocations);
}

TEST(ModelMemoryTest, PlannedBytesAreEnoughAndASecondStepAllocatesNothing) {
  SetFlushDenormals();
  ExpectPlannedBytesAreEnough(kFp32);
  ExpectPlannedBytesAreEnough(kBf16);
  ExpectPlannedBytesAreEnough(kFp8);
  EXPECT_LT(Transformer::TrainingBytes(TinyConfig(), kBf16, kTokensMax),
            Transformer::TrainingBytes(TinyConfig(), kFp32, kTokensMax));
}

// The frozen reference of a training step: no backward, no activations of its
// own.
TEST(ModelMemoryTest, AForwardOnABorrowedTapeTakesNoMemoryOfBackwards) {
  SetFlushDenormals();
  const ModelConfig config = TinyConfig();
  auto inner = *FindBackend({});
  CountingBackend backend(inner.get());
  auto weights = RandomModel(&backend, config, 1);
  auto model = *Transformer::Create(&backend, weights.get(), kTokensMax);
  auto tape = *model->NewTape(kTokensMax);
  const auto forward = [&](Transformer* transformer) {
    TrainingBatch made =
        MakeTrainingBatch(config, {{RandomTokens(config, 1, kTokensMax)}});
    Tensor hidden;
    const absl::Status status =
        transformer->Forward(&made.batch, nullptr, tape.get(), {}, &hidden);
    ASSERT_TRUE(status.ok()) << status;
  };
  forward(model.get());  // the tape has grown as far as it will
  const int64_t before = backend.allocated_bytes();
  auto reference = *Transformer::Create(&backend, weights.get(), kTokensMax);
  forward(reference.get());
  EXPECT_GT(backend.allocated_bytes(), before);
  EXPECT_LE(backend.allocated_bytes() - before,
            Transformer::BorrowedTapeBytes(config, kTokensMax));
}

TEST(ModelMemoryDeathTest, NobodyGoesBackOverABorrowedTape) {
  SetFlushDenormals();
  const ModelConfig config = TinyConfig();
  auto backend = *FindBackend({});
  auto weights = RandomModel(backend.get(), config, 1);
  auto gradients = *ModelGradients::Create(backend.get(), config);
  auto model = *Transformer::Create(backend.get(), weights.get(), kTokensMax);
  auto other = *Transformer::Create(backend.get(), weights.get(), kTokensMax);
  auto tape = *model->NewTape(kTokensMax);
  TrainingBatch made =
      MakeTrainingBatch(config, {{RandomTokens(config, 1, 8)}});
  Tensor hidden;
  ASSERT_TRUE(
      other->Forward(&made.batch, nullptr, tape.get(), {}, &hidden).ok());
  for (Transformer* transformer : {model.get(), other.get()}) {
    EXPECT_DEATH(transformer->Backward(tape.get(), hidden, gradients.get()),
                 "this model's forward on its own tape");
  }
}

}  // namespace
}  // namespace temper
