// DeepSeek-V3.2's chat and tool format: a conversation as text, byte for byte,
// and as token ids.
//
// On ids the markers are special tokens and what the messages hold is encoded
// with special-token matching off: no content can forge a marker. (Textual
// parts of the format, "</result>" for one, cannot be escaped and can be
// imitated.) Where the content holds no marker, the ids are those of the text.
//
// An episode is never tokenised again. Its record is the prompt of Render, then
// by turns the ids that the model sampled (up to and with EOS) and the ids that
// ToolResults gives.
//
// All functions are pure; ChatTemplate is thread-safe.

#ifndef KERNELS_MODEL_CHAT_TEMPLATE_H_
#define KERNELS_MODEL_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/tokenizer.h"
#include "proto/task.pb.h"

namespace temper {

enum class ChatMode { kChat, kThinking };

struct ChatOptions {
  ChatMode mode = ChatMode::kThinking;
  // In thinking mode: leave out developer messages before the last user
  // message. (Earlier reasoning is left out whatever this says.)
  bool drop_thinking = true;
  // A JSON schema shown to the model; empty: none.
  std::string response_format_json;
};

// The prompt of `messages`: ends where the assistant begins to write, or, if
// the last message is an assistant's, with that message's EOS. `tools` and the
// response format stand in the first system message; without one, in the last
// developer message; without that, in an empty system message put first.
// InvalidArgument names the message and the fault: an unknown role, tool calls
// of another role than the assistant's, arguments that are no JSON object, tool
// results that match no calls, an assistant message in thinking mode that has
// neither reasoning nor calls, a tool whose function_json is no object.
absl::StatusOr<std::string> RenderChatText(const std::vector<Message>& messages,
                                           const std::vector<Tool>& tools,
                                           const ChatOptions& options);

// Whether `messages` are a prompt, after which the assistant writes: the last
// is a user's, a developer's or a tool's. InvalidArgument names it: after an
// assistant's EOS, say, nothing may be sampled.
absl::Status CheckPromptEnd(const std::vector<Message>& messages);

struct RenderedChat {
  std::vector<int32_t> tokens;
  // Whether an assistant wrote the token: its reasoning, content, calls and
  // EOS, as it would have sampled them. In thinking mode only of messages after
  // the last user message, for earlier ones are shown without their reasoning.
  std::vector<bool> sampled;
};

class ChatTemplate {
 public:
  // InvalidArgument, naming it, if a marker of the format is not an added token
  // of `tokenizer`, which must outlive the result.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(
      const Tokenizer* tokenizer);

  // RenderChatText as ids. Errors: its, and the tokenizer's.
  absl::StatusOr<RenderedChat> Render(const std::vector<Message>& messages,
                                      const std::vector<Tool>& tools,
                                      const ChatOptions& options) const;

  // Render of what the assistant is to go on from. Errors: CheckPromptEnd's,
  // too.
  absl::StatusOr<std::vector<int32_t>> RenderPrompt(
      const std::vector<Message>& messages, const std::vector<Tool>& tools,
      const ChatOptions& options) const;

  // What follows an assistant's EOS when its calls were answered: `results` in
  // the order of the calls, and the opening of the next assistant message.
  // InvalidArgument: no results, or one that is not UTF-8.
  absl::StatusOr<std::vector<int32_t>> ToolResults(
      const std::vector<std::string>& results, ChatMode mode) const;

  int32_t eos_id() const { return eos_; }

 private:
  explicit ChatTemplate(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  const Tokenizer* const tokenizer_;
  int32_t eos_ = 0;
};

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_TEMPLATE_H_
