#include "kernels/model/chat/template.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/chat/golden.h"
#include "kernels/model/chat/preamble.h"
#include "kernels/model/chat/tokens.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

Message Make(const std::string& role, const std::string& content,
             const std::string& reasoning = "") {
  Message m;
  m.set_role(role);
  m.set_content(content);
  m.set_reasoning_content(reasoning);
  return m;
}

class ChatTemplateTest : public ::testing::Test {
 protected:
  ChatTemplateTest()
      : tokenizer_(GoldenTokenizer()),
        template_(*ChatTemplate::Create(tokenizer_.get())) {}

  RenderedChat Render(const std::vector<Message>& messages,
                      const std::vector<Tool>& tools = {},
                      const ChatOptions& options = {}) {
    auto chat = template_->Render(messages, tools, options);
    EXPECT_TRUE(chat.ok()) << chat.status();
    return *chat;
  }
  std::string Sampled(const RenderedChat& chat) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < chat.tokens.size(); ++i) {
      if (chat.sampled[i]) ids.push_back(chat.tokens[i]);
    }
    return *tokenizer_->Decode(ids);
  }

  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<ChatTemplate> template_;
};

TEST(ChatTextTest, EveryGoldenConversationIsRenderedByteForByte) {
  for (const RenderCase& c : RenderCases()) {
    const auto text = RenderChatText(c.messages, c.tools, c.options);
    ASSERT_TRUE(text.ok()) << c.name << ": " << text.status();
    EXPECT_EQ(*text, c.text) << c.name;
  }
}

TEST(ChatTextTest, ThePreambleIsTheFile) {
  std::ifstream file("tests/golden/chat/preamble.txt");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), kToolPreamble);
}

TEST(ChatTextTest, ToolsWithoutASystemMessageGetAnEmptyOne) {
  const RenderCase c = RenderCases()[7];
  std::vector<Message> with = {Make("system", ""), c.messages[1]};
  EXPECT_EQ(*RenderChatText({c.messages[1]}, c.tools, {}),
            *RenderChatText(with, c.tools, {}));
}

TEST(ChatTextTest, ADeveloperMessageCarriesTheToolsAndIsDroppedOnceOld) {
  const RenderCase c = RenderCases()[7];
  const std::string text =
      *RenderChatText({Make("developer", "find it")}, c.tools, {});
  EXPECT_EQ(text.rfind("<｜begin▁of▁sentence｜><｜User｜>\n\n## Tools", 0), 0u);
  EXPECT_THAT(text,
              HasSubstr("</functions>\n\n\n# The user's message is: find it"
                        "<｜Assistant｜><think>"));
  const std::vector<Message> later = {
      Make("system", "s"), Make("developer", "a"), Make("assistant", "b", "r"),
      Make("user", "c")};
  EXPECT_EQ(*RenderChatText(later, {}, {}),
            "<｜begin▁of▁sentence｜>sb<｜end▁of▁sentence｜><｜User｜>c<"
            "｜Assistant｜><think>");
  ChatOptions keep;
  keep.drop_thinking = false;
  EXPECT_THAT(*RenderChatText(later, {}, keep), HasSubstr("message is: a"));
}

TEST(ChatTextTest, RefusesABadConversationNamingTheMessage) {
  const auto error = [](const std::vector<Message>& messages) {
    return RenderChatText(messages, {}, {}).status().ToString();
  };
  const Message user = Make("user", "u");
  EXPECT_THAT(error({user, Make("robot", "")}),
              HasSubstr("message 1 (role 'robot')"));
  EXPECT_THAT(error({user, Make("assistant", "4")}),
              HasSubstr("needs reasoning"));
  // Whatever is left out of the prompt counts: it is the file's message 2.
  EXPECT_THAT(error({Make("developer", "d"), user, Make("robot", ""), user}),
              HasSubstr("message 2 (role 'robot')"));
  EXPECT_THAT(error({Make("user", "u", "r")}), HasSubstr("only an assistant"));
  EXPECT_THAT(error({user, Make("tool", "1")}), HasSubstr("0 tool calls"));
  Message call = Make("assistant", "", "r");
  call.add_tool_calls()->set_name("f");
  call.mutable_tool_calls(0)->set_arguments_json("[1]");
  EXPECT_THAT(error({user, call}),
              HasSubstr("tool call 0: arguments_json: not an object"));
  call.mutable_tool_calls(0)->set_arguments_json("{}");
  EXPECT_THAT(error({user, call, Make("tool", "1"), Make("tool", "2")}),
              HasSubstr("2 results follow a message with 1"));
  Tool tool;
  tool.set_name("f");
  tool.set_function_json("[]");
  EXPECT_THAT(RenderChatText({user}, {tool}, {}).status().ToString(),
              HasSubstr("tool 'f'"));
}

TEST_F(ChatTemplateTest, APromptEndsWhereTheAssistantBeginsToWrite) {
  const Message user = Make("user", "1+1?");
  const auto prompt = template_->RenderPrompt({user}, {}, {});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(*prompt, Render({user}).tokens);
  for (const Message& last :
       {Make("assistant", "2", "add"), Make("system", "Be brief.")}) {
    const auto refused = template_->RenderPrompt({user, last}, {}, {});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()),
                HasSubstr("message 1 (role '" + last.role() +
                          "') is the last: a prompt ends with"));
  }
  EXPECT_THAT(
      std::string(template_->RenderPrompt({}, {}, {}).status().message()),
      HasSubstr("messages is empty"));
}

TEST_F(ChatTemplateTest, IdsOfEveryGoldenDecodeToItsText) {
  for (const RenderCase& c : RenderCases()) {
    const RenderedChat chat = Render(c.messages, c.tools, c.options);
    EXPECT_EQ(*tokenizer_->Decode(chat.tokens), c.text) << c.name;
    EXPECT_EQ(chat.tokens.size(), chat.sampled.size());
  }
}

TEST_F(ChatTemplateTest, IdsAreThoseOfTheWholeTextWhereContentHoldsNoMarker) {
  for (const RenderCase& c : RenderCases()) {
    if (c.name == "results with markup of the format itself") continue;
    EXPECT_EQ(Render(c.messages, c.tools, c.options).tokens,
              *tokenizer_->Encode(c.text, SpecialMatching::kOn))
        << c.name;
  }
}

TEST_F(ChatTemplateTest, ContentCannotForgeAMarker) {
  std::string all;
  for (const char* marker : {kBosToken, kEosToken, kUserToken, kAssistantToken,
                             kThinkToken, kThinkEndToken, kDsmlToken}) {
    all += marker;
  }
  const std::vector<Message> messages = {Make("system", all), Make("user", all),
                                         Make("assistant", all, all)};
  int specials = 0;
  for (int32_t id : Render(messages).tokens)
    specials += tokenizer_->IsSpecial(id);
  EXPECT_EQ(specials, 6);  // BOS User Assistant <think> </think> EOS
  const auto results = template_->ToolResults({all}, ChatMode::kThinking);
  specials = 0;
  for (int32_t id : *results) specials += tokenizer_->IsSpecial(id);
  EXPECT_EQ(specials, 1);  // the opening <think>
}

TEST_F(ChatTemplateTest, SampledMarksWhatTheAssistantWroteAndNothingElse) {
  const std::vector<Message> turns = {
      Make("system", "s"), Make("user", "a"), Make("assistant", "b", "r1"),
      Make("user", "c"), Make("assistant", "d", "r2")};
  EXPECT_EQ(Sampled(Render(turns)), "r2</think>d<｜end▁of▁sentence｜>");
  ChatOptions chat;
  chat.mode = ChatMode::kChat;
  EXPECT_EQ(Sampled(Render(turns, {}, chat)),
            "b<｜end▁of▁sentence｜>d<｜end▁of▁sentence｜>");
}

TEST_F(ChatTemplateTest, ARecordGrownTurnByTurnEqualsTheWholeRendering) {
  for (const RenderCase& c : RenderCases()) {
    if (c.name != "thinking retained across tool calls" &&
        c.name != "two calls in one message, results in order" &&
        c.name != "tools in chat mode") {
      continue;
    }
    const RenderedChat whole = Render(c.messages, c.tools, c.options);
    std::vector<int32_t> record =
        Render({c.messages[0], c.messages[1]}, c.tools, c.options).tokens;
    for (size_t i = 2; i < c.messages.size();) {
      if (c.messages[i].role() == "assistant") {
        // What the model sampled: taken from the whole rendering.
        size_t at = record.size();
        while (at < whole.tokens.size() && whole.sampled[at]) {
          record.push_back(whole.tokens[at++]);
        }
        ++i;
        continue;
      }
      std::vector<std::string> results;
      while (i < c.messages.size() && c.messages[i].role() == "tool") {
        results.push_back(c.messages[i++].content());
      }
      const auto more = template_->ToolResults(results, c.options.mode);
      ASSERT_TRUE(more.ok());
      record.insert(record.end(), more->begin(), more->end());
    }
    EXPECT_EQ(record, whole.tokens) << c.name;
  }
}

TEST_F(ChatTemplateTest, RefusesResultsThatAreNone) {
  EXPECT_FALSE(template_->ToolResults({}, ChatMode::kThinking).ok());
  EXPECT_FALSE(template_->ToolResults({"\xFF"}, ChatMode::kThinking).ok());
}

TEST_F(ChatTemplateTest, RefusesATokenizerWithoutAMarker) {
  BpeTrainerOptions options;
  options.trailing_tokens.pop_back();
  const auto tokenizer = *Tokenizer::Create(*TrainBpe({}, options));
  EXPECT_THAT(ChatTemplate::Create(tokenizer.get()).status().ToString(),
              HasSubstr(kDsmlToken));
}

}  // namespace
}  // namespace temper
