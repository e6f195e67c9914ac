#include "kernels/model/chat/golden.h"

#include <fstream>

#include "kernels/base/log.h"
#include "kernels/model/bpe_trainer.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::ordered_json;

Json Cases() {
  std::ifstream file("tests/golden/chat/cases.json");
  CHECK(file.good()) << "tests/golden/chat/cases.json";
  return Json::parse(file);
}

ChatMode ModeOf(const Json& entry) {
  return entry["mode"] == "chat" ? ChatMode::kChat : ChatMode::kThinking;
}

}  // namespace

std::vector<RenderCase> RenderCases() {
  std::vector<RenderCase> cases;
  const Json document = Cases();
  for (const Json& entry : document["render"]) {
    RenderCase c;
    c.name = entry["name"];
    c.options.mode = ModeOf(entry);
    c.options.drop_thinking = entry["drop_thinking"];
    c.text = entry["text"];
    for (const Json& tool : entry["tools"]) {
      c.tools.emplace_back();
      c.tools.back().set_name(tool["function"]["name"].get<std::string>());
      c.tools.back().set_function_json(tool["function"].dump());
    }
    for (const Json& message : entry["messages"]) {
      Message m;
      m.set_role(message["role"].get<std::string>());
      m.set_content(message["content"].get<std::string>());
      m.set_reasoning_content(message.value("reasoning_content", ""));
      for (const Json& call : message.value("tool_calls", Json::array())) {
        ToolCall* out = m.add_tool_calls();
        out->set_name(call["function"]["name"].get<std::string>());
        out->set_arguments_json(
            call["function"]["arguments"].get<std::string>());
      }
      if (message.contains("response_format")) {
        c.options.response_format_json = message["response_format"].dump();
      }
      c.messages.push_back(m);
    }
    cases.push_back(c);
  }
  CHECK_EQ(cases.size(), 19u);
  return cases;
}

std::vector<ParseCase> ParseCases() {
  std::vector<ParseCase> cases;
  const Json document = Cases();
  for (const Json& entry : document["parse"]) {
    ParseCase c;
    c.name = entry["name"];
    c.mode = ModeOf(entry);
    c.text = entry["text"];
    // Stricter than the published parser in this one case.
    c.error = entry.contains("error") || c.name == "invalid JSON argument";
    if (!c.error) {
      const Json& message = entry["message"];
      c.message.set_role("assistant");
      c.message.set_content(message["content"].get<std::string>());
      c.message.set_reasoning_content(
          message["reasoning_content"].get<std::string>());
      for (const Json& call : message["tool_calls"]) {
        ToolCall* out = c.message.add_tool_calls();
        out->set_name(call["name"].get<std::string>());
        out->set_arguments_json(call["arguments"].get<std::string>());
      }
    }
    cases.push_back(c);
  }
  CHECK_EQ(cases.size(), 26u);
  return cases;
}

std::unique_ptr<Tokenizer> GoldenTokenizer() {
  std::vector<TrainingText> texts;
  for (const RenderCase& c : RenderCases()) texts.push_back({c.text});
  BpeTrainerOptions options;
  options.vocab_size = 400;
  options.trailing_tokens.push_back("<｜other｜>");
  auto spec = TrainBpe(texts, options);
  CHECK(spec.ok()) << spec.status().ToString();
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  CHECK(tokenizer.ok()) << tokenizer.status().ToString();
  return *std::move(tokenizer);
}

}  // namespace temper
