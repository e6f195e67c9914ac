// The quickstart's base model can be made again: its tokenizer to the byte, and
// the first twenty steps of its making to the bit. A change of the recipe or of
// the numerics renews the digest here; the shipped model's manifest names the
// revision that reproduces the shipped bytes.

#include <string>

#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/sanitized.h"
#include "kernels/find_backend.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/train/init_weights.h"
#include "learner/train/sft_trainer.h"
#include "tools/config/sft_config.h"
#include "tools/quickstart/source.h"

namespace temper {
namespace {

constexpr char kModel[] = "tools/quickstart_model";
constexpr int kSteps = 20;
constexpr int kStepsSanitized = 2;  // with the tokenizer 49 s under tsan
constexpr char kDigest[] =
    "323eb60fbef8f5dba1e7113bc276864734415c1ec32499941f5e675beb82a112";
constexpr uint64_t kTokenizerDemonstrations = 600;

std::string Read(const std::string& path) {
  const auto text = ReadFile(path, 64 << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

TEST(QuickstartRemakeTest,
     TheTokenizerIsTheShippedOneAndTheFirstStepsAreKnown) {
  SetFlushDenormals();
  constexpr char kRecipe[] = "tools/configs/quickstart_sft.textproto";
  auto parsed = ParseSftConfig(Read(kRecipe), kRecipe);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  SftConfig& config = *parsed;
  ASSERT_TRUE(ResolveSftConfig(&config).ok());
  const auto source = NewQuickstartSource(config.seed());
  const auto model = ParseModelConfig(Read(config.model_config()));
  ASSERT_TRUE(model.ok()) << model.status();
  auto spec = LearnTokenizer(
      *source, {"clean", "sloppy"}, kTokenizerDemonstrations,
      static_cast<int32_t>(model->vocab_size), [] { return true; });
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(TokenizerJson(*spec) ==
              Read(std::string(kModel) + "/tokenizer.json"));
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const auto backend = *FindBackend({.threads = 2});
  const auto weights = *MasterWeights::Create(backend.get(), *model);
  ASSERT_TRUE(
      InitWeights(config.seed(), config.initializer_range(), weights.get())
          .ok());
  const auto trainer = SftTrainer::Create(
      config, backend.get(), tokenizer->get(), source.get(), weights.get());
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  for (int step = 0; step < (kSanitized ? kStepsSanitized : kSteps); ++step) {
    const auto progress = (*trainer)->Step();
    ASSERT_TRUE(progress.ok()) << progress.status();
  }
  if (kSanitized) return;
  EXPECT_EQ(WeightsDigest(*weights), kDigest);
}

}  // namespace
}  // namespace temper
