#include "kernels/model/chat/parser.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/chat/golden.h"
#include "kernels/model/chat/tokens.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

void ExpectCase(const ParseCase& c, const absl::StatusOr<Message>& got) {
  if (c.error) {
    EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument)
        << c.name;
    return;
  }
  ASSERT_TRUE(got.ok()) << c.name << ": " << got.status();
  EXPECT_EQ(got->DebugString(), c.message.DebugString()) << c.name;
}

class ChatParserTest : public ::testing::Test {
 protected:
  ChatParserTest()
      : tokenizer_(GoldenTokenizer()),
        parser_(*ChatParser::Create(tokenizer_.get())) {}

  std::vector<int32_t> Ids(const std::string& text,
                           SpecialMatching matching = SpecialMatching::kOn) {
    return *tokenizer_->Encode(text, matching);
  }

  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<ChatParser> parser_;
};

TEST(ChatTextParserTest, EveryGoldenCompletionOnText) {
  for (const ParseCase& c : ParseCases())
    ExpectCase(c, ParseChatText(c.text, c.mode));
}

TEST_F(ChatParserTest, EveryGoldenCompletionOnIds) {
  for (const ParseCase& c : ParseCases()) {
    ExpectCase(c, parser_->Parse(Ids(c.text), c.mode));
  }
}

TEST_F(ChatParserTest, AMarkerTypedOutIsPlainText) {
  const std::string calls =
      "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke "
      "name=\"f\">\n</｜DSML｜invoke>\n"
      "</｜DSML｜function_calls>";
  std::vector<int32_t> ids = Ids("r</think>");
  for (int32_t id : Ids("<think>" + calls, SpecialMatching::kOff))
    ids.push_back(id);
  ids.push_back(*tokenizer_->SpecialId(kEosToken));
  const auto message = parser_->Parse(ids, ChatMode::kThinking);
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->content(), "<think>" + calls);
  EXPECT_EQ(message->tool_calls_size(), 0);
  // And an end that is typed out does not end.
  EXPECT_FALSE(
      parser_
          ->Parse(Ids("r</think>4<｜end▁of▁sentence｜>", SpecialMatching::kOff),
                  ChatMode::kThinking)
          .ok());
}

TEST_F(ChatParserTest, HowTheIdsCutTheTextDoesNotMatter) {
  for (const ParseCase& c : ParseCases()) {
    std::vector<int32_t> bytes;
    for (int32_t id : Ids(c.text)) {
      if (tokenizer_->IsSpecial(id)) {
        bytes.push_back(id);
        continue;
      }
      for (char byte : *tokenizer_->TokenBytes(id)) {
        bytes.push_back(3 + static_cast<uint8_t>(byte));
      }
    }
    ExpectCase(c, parser_->Parse(bytes, c.mode));
  }
}

TEST_F(ChatParserTest, WhatTheTemplateWritesIsReadBack) {
  const auto chat_template = *ChatTemplate::Create(tokenizer_.get());
  int messages = 0;
  for (const RenderCase& c : RenderCases()) {
    if (c.messages.back().role() != "assistant") continue;
    const auto chat = chat_template->Render(c.messages, c.tools, c.options);
    ASSERT_TRUE(chat.ok());
    size_t begin = chat->tokens.size();
    while (chat->sampled[begin - 1]) --begin;
    const auto got = parser_->Parse(
        {chat->tokens.begin() + begin, chat->tokens.end()}, c.options.mode);
    ASSERT_TRUE(got.ok()) << c.name << ": " << got.status();
    EXPECT_EQ(got->DebugString(), c.messages.back().DebugString()) << c.name;
    ++messages;
  }
  EXPECT_GE(messages, 5);
}

TEST_F(ChatParserTest, RefusesAnyOtherSpecialTokenAnywhere) {
  const std::string call =
      "r</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
      "<｜DSML｜parameter name=\"k\" string=\"true\">v</｜DSML｜parameter>\n"
      "</｜DSML｜invoke>\n</｜DSML｜function_calls><｜end▁of▁sentence｜>";
  const std::vector<int32_t> good = Ids(call);
  ASSERT_TRUE(parser_->Parse(good, ChatMode::kThinking).ok());
  for (const char* special :
       {"<｜other｜>", kUserToken, kBosToken, kThinkToken}) {
    for (size_t at = 0; at <= good.size(); ++at) {
      std::vector<int32_t> bad = good;
      bad.insert(bad.begin() + at, *tokenizer_->SpecialId(special));
      EXPECT_FALSE(parser_->Parse(bad, ChatMode::kThinking).ok())
          << special << at;
    }
  }
}

TEST_F(ChatParserTest, SaysWhereAndWhatWasExpected) {
  EXPECT_THAT(ParseChatText("abc", ChatMode::kThinking).status().ToString(),
              HasSubstr("at byte 0 of the completion: expected </think>"));
  EXPECT_THAT(
      ParseChatText("a</think>b", ChatMode::kThinking).status().ToString(),
      HasSubstr("at byte 3 of the completion"));
  EXPECT_FALSE(parser_
                   ->Parse({3 + 0xC3, *tokenizer_->SpecialId(kEosToken)},
                           ChatMode::kChat)
                   .ok());
  EXPECT_THAT(parser_->Parse({100000}, ChatMode::kChat).status().ToString(),
              HasSubstr("100000"));
}

}  // namespace
}  // namespace temper
