// The shipped base model can be made again: its tokenizer to the byte, and the
// first twenty steps of its making to the bit, against what the making run
// wrote into its manifest.

#include <google/protobuf/text_format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/init_weights.h"
#include "tools/quickstart_source.h"
#include "tools/sft.h"

namespace temper {
namespace {

constexpr char kModel[] = "tools/quickstart_model";
constexpr int64_t kSteps = 20;
constexpr uint64_t kTokenizerDemonstrations = 600;

std::string Read(const std::string& path) {
  const auto text = ReadFile(path, 64 << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

TEST(QuickstartRemakeTest, TokenizerAndFirstStepsAreThoseOfTheManifest) {
  SetFlushDenormals();
  SftConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      Read("tools/configs/quickstart_sft.textproto"), &config));
  ASSERT_TRUE(ResolveSftConfig(&config).ok());
  const auto source = NewQuickstartSource(config.seed());
  const auto model = ParseModelConfig(Read(config.model_config()));
  ASSERT_TRUE(model.ok()) << model.status();
  auto spec = LearnTokenizer(source.get(), {"clean", "sloppy"},
                             kTokenizerDemonstrations,
                             static_cast<int32_t>(model->vocab_size));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(TokenizerJson(*spec) ==
              Read(std::string(kModel) + "/tokenizer.json"));
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const auto backend = *NewCpuBackend(BestTier(), 2);
  const auto weights = *ModelWeights::Create(backend.get(), *model);
  ASSERT_TRUE(
      InitWeights(config.seed(), config.initializer_range(), weights.get())
          .ok());
  const absl::Status trained =
      RunSft(config, backend.get(), **tokenizer, source.get(), weights.get(),
             [](const SftProgress& progress) {
               return progress.step < kSteps;
             });
  ASSERT_TRUE(trained.ok()) << trained;
  const auto manifest =
      nlohmann::json::parse(Read(std::string(kModel) + "/manifest.json"));
  EXPECT_EQ(WeightsDigest(*weights),
            manifest.at("fp32_sha256_after_step_20").get<std::string>());
}

}  // namespace
}  // namespace temper
