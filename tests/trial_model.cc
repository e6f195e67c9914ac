#include "tests/trial_model.h"

#include <algorithm>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/find_backend.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/test_model.h"
#include "kernels/model/tokenizer_file.h"
#include "tools/quickstart/demonstrations.h"

namespace temper {
namespace {

struct RandomLengths {
  int64_t preamble = 0, question = 0, tool_result = 0;
};

std::vector<Conversation> RandomConversations(const ModelConfig& config,
                                              const RandomLengths& lengths) {
  std::vector<Conversation> conversations(kConversations);
  for (int s = 0; s < kConversations; ++s) {
    Conversation& conversation = conversations[s];
    conversation.prompt = RandomTokens(config, 1, lengths.preamble);
    const auto question =
        RandomTokens(config, 200 + s, lengths.question + s % 3);
    conversation.prompt.insert(conversation.prompt.end(), question.begin(),
                               question.end());
    conversation.tool_result =
        RandomTokens(config, 500 + s, lengths.tool_result);
  }
  return conversations;
}

void Load(const std::string& dir, TrialModel* model) {
  auto config = ReadModelConfig(dir);
  CHECK(config.ok()) << config.status();
  model->config = *config;
  auto backend = FindBackend({.name = "scalar"});
  CHECK(backend.ok()) << backend.status();
  auto weights = MasterWeights::Load(backend->get(), *config, dir);
  CHECK(weights.ok()) << weights.status();
  model->values = (*weights)->GetValues();
}

// The episode's own prompt, and the result of its demonstration's last call.
Conversation FromDemonstration(const Demonstration& demonstration,
                               const ChatTemplate& chat) {
  const auto& messages = demonstration.messages();
  const auto prompt = chat.Render(
      {messages[0], messages[1]},
      {demonstration.tools().begin(), demonstration.tools().end()}, {});
  CHECK(prompt.ok()) << prompt.status();
  Conversation conversation;
  conversation.prompt = prompt->tokens;
  for (const Message& message : messages) {
    if (message.role() != "tool") continue;
    const auto result =
        chat.ToolResults({message.content()}, ChatMode::kThinking);
    CHECK(result.ok()) << result.status();
    conversation.tool_result = *result;
  }
  return conversation;
}

}  // namespace

int64_t TrialModel::longest() const {
  size_t longest = 0;
  for (const Conversation& c : conversations) {
    longest = std::max(longest, c.prompt.size() + c.tool_result.size());
  }
  return static_cast<int64_t>(longest) + 2 * turn_tokens;
}

TrialModel TinyTrialModel() {
  TrialModel model;
  model.name = "Tiny";
  model.config = TinyConfig();
  model.values = RandomValues(model.config, 5);
  model.turn_tokens = 24;
  model.conversations = RandomConversations(
      model.config, {.preamble = 90, .question = 9, .tool_result = 13});
  return model;
}

TrialModel GoldenCTrialModel() {
  TrialModel model;
  model.name = "GoldenC";
  Load("tests/golden/model/C", &model);
  model.turn_tokens = 15;
  model.conversations = RandomConversations(
      model.config, {.preamble = 75, .question = 4, .tool_result = 9});
  return model;
}

TrialModel QuickstartTrialModel() {
  const std::string dir = "tools/quickstart_model";
  TrialModel model;
  model.name = "Quickstart";
  Load(dir, &model);
  model.turn_tokens = 32;
  const auto tokenizer = LoadTokenizer(dir + "/tokenizer.json");
  CHECK(tokenizer.ok()) << tokenizer.status();
  const auto chat = ChatTemplate::Create(tokenizer->get());
  CHECK(chat.ok()) << chat.status();
  model.stop_token = (*chat)->eos_id();
  for (uint64_t i = 0; model.conversations.size() < kConversations; ++i) {
    Conversation conversation = FromDemonstration(
        MakeQuickstartDemonstration(1, SlipRates(), i).demonstration, **chat);
    if (conversation.tool_result.empty()) continue;  // a task without calls
    model.conversations.push_back(std::move(conversation));
  }
  return model;
}

std::unique_ptr<PublishedWeights> WeightsOf(Backend* backend,
                                            const TrialModel& model) {
  return PublishedOf(backend, model.config, model.values,
                     Passes::kForwardAndBackward, model.numerics);
}

}  // namespace temper
