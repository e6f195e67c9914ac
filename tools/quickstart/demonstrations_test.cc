#include "tools/quickstart/demonstrations.h"

#include <algorithm>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/template.h"

namespace temper {
namespace {

std::vector<Message> MessagesOf(const QuickstartDemonstration& d) {
  return {d.demonstration.messages().begin(), d.demonstration.messages().end()};
}

std::vector<Tool> ToolsOf(const QuickstartDemonstration& d) {
  return {d.demonstration.tools().begin(), d.demonstration.tools().end()};
}

// The vocabulary learnt from demonstrations, what they begin with counted once.
std::unique_ptr<Tokenizer> LearntTokenizer() {
  std::vector<TrainingText> texts;
  for (const char* mix : {"clean", "sloppy"}) {
    for (int i = 0; i < 300; ++i) {
      const auto d = MakeQuickstartDemonstration(1, *RatesOfMix(mix), i);
      std::string text = *RenderChatText(MessagesOf(d), ToolsOf(d), {});
      const size_t own = text.find("<｜User｜>");
      if (texts.empty()) texts.push_back({text.substr(0, own)});
      texts.push_back({text.substr(own)});
    }
  }
  auto tokenizer = Tokenizer::Create(*TrainBpe(texts, BpeTrainerOptions()));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(QuickstartDemonstrationsTest, CleanOnesAreAllRight) {
  for (int i = 0; i < 3000; ++i) {
    const auto d = MakeQuickstartDemonstration(5, SlipRates(), i);
    EXPECT_TRUE(d.right) << d.task.question << ": " << d.answer;
    EXPECT_EQ(MessagesOf(d).back().content(), d.task.answer);
  }
}

TEST(QuickstartDemonstrationsTest, SloppyOnesAreRightInThreeOfTen) {
  std::map<QuickstartKind, int> right;
  int all = 0;
  for (int i = 0; i < 30000; ++i) {
    const auto d = MakeQuickstartDemonstration(5, SloppyRates(), i);
    right[d.task.kind] += d.right;
    all += d.right;
  }
  EXPECT_GT(all / 30000., 0.29);
  EXPECT_LT(all / 30000., 0.32);
  for (const auto& [kind, count] : right) {
    EXPECT_GT(count / 10000., 0.28) << static_cast<int>(kind);
    EXPECT_LT(count / 10000., 0.33) << static_cast<int>(kind);
  }
}

TEST(QuickstartDemonstrationsTest, OnlyTrainTasksAreShown) {
  for (int i = 0; i < 3000; ++i) {
    const auto d = MakeQuickstartDemonstration(9, SloppyRates(), i);
    EXPECT_EQ(SplitOf(d.task.canonical), TaskSplit::kTrain);
  }
}

TEST(QuickstartDemonstrationsTest, TheStreamDependsOnItsSeedAndIndexAlone) {
  const auto bytes = [](uint64_t seed, uint64_t index) {
    return MakeQuickstartDemonstration(seed, SloppyRates(), index)
        .demonstration.SerializeAsString();
  };
  EXPECT_EQ(bytes(1, 77), bytes(1, 77));
  EXPECT_NE(bytes(1, 77), bytes(2, 77));
  EXPECT_NE(bytes(1, 77), bytes(1, 80));
}

TEST(QuickstartDemonstrationsTest, TheSecondCallHoldsTheValueThatWasLookedUp) {
  for (int i = 1; i < 600; i += 3) {
    const auto messages =
        MessagesOf(MakeQuickstartDemonstration(1, SlipRates(), i));
    ASSERT_EQ(messages.size(), 7u);
    EXPECT_EQ(messages[2].tool_calls(0).name(), "lookup");
    EXPECT_EQ(messages[4].tool_calls(0).name(), "python");
    EXPECT_EQ(messages[4].tool_calls(0).arguments_json().rfind(
                  "{\"code\":\"" + messages[3].content() + "*", 0),
              0u);
  }
}

TEST(QuickstartDemonstrationsTest, AdditionWritesEachCarry) {
  const auto d = MakeQuickstartDemonstration(1, SlipRates(), 2);
  EXPECT_THAT(MessagesOf(d).back().reasoning_content(),
              ::testing::MatchesRegex("([0-9].[0-9].[01]=[01][0-9] ?)+"));
  EXPECT_EQ(MessagesOf(d).back().reasoning_content().size(), 26u);
}

TEST(QuickstartDemonstrationsTest, EveryTurnIsWellFormedAndShortInTokens) {
  const auto tokenizer = LearntTokenizer();
  EXPECT_LE(tokenizer->vocab_size(), 512);
  const auto chat = *ChatTemplate::Create(tokenizer.get());
  const auto parser = *ChatParser::Create(tokenizer.get());
  std::vector<int32_t> first;
  size_t shared = 0;
  for (int i = 0; i < 900; ++i) {
    const auto d = MakeQuickstartDemonstration(3, SloppyRates(), i);
    const auto rendered = chat->Render(MessagesOf(d), ToolsOf(d), {});
    ASSERT_TRUE(rendered.ok()) << rendered.status();
    const std::vector<int32_t>& tokens = rendered->tokens;
    EXPECT_LE(
        std::count(rendered->sampled.begin(), rendered->sampled.end(), true),
        60);
    EXPECT_LE(tokens.size(), 800u);
    for (size_t at = 0; at < tokens.size(); ++at) {
      std::vector<int32_t> turn;
      while (at < tokens.size() && rendered->sampled[at])
        turn.push_back(tokens[at++]);
      if (turn.empty()) continue;
      EXPECT_TRUE(parser->Parse(turn, ChatMode::kThinking).ok());
    }
    // All prompts begin with the same tokens, the preamble's: math too.
    if (i == 0) first = tokens;
    size_t same = 0;
    while (same < std::min(first.size(), tokens.size()) &&
           tokens[same] == first[same]) {
      ++same;
    }
    shared = i == 0 ? same : std::min(shared, same);
  }
  EXPECT_GT(shared, 300u);
}

TEST(QuickstartDemonstrationsTest, AnUnknownMixIsRefusedByName) {
  EXPECT_THAT(RatesOfMix("dirty").status().ToString(),
              ::testing::HasSubstr("\"dirty\""));
}

}  // namespace
}  // namespace temper
