#include "kernels/model/chat/template.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/markup.h"
#include "kernels/model/chat/tokens.h"

namespace temper {
namespace {

MarkupOptions ToMarkup(const ChatOptions& options) {
  return {options.mode == ChatMode::kThinking, options.drop_thinking,
          options.response_format_json};
}

// Turns pieces into ids. Text on both sides of a piece's end is tokenised as
// one, so that the ids are those of the whole text.
class PieceEncoder {
 public:
  explicit PieceEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  absl::Status Add(const ChatPiece& piece) {
    // No token may be half the model's: sampling ended where the other begins.
    if (piece.sampled != sampled_) RETURN_IF_ERROR(Flush());
    sampled_ = piece.sampled;
    if (!piece.markup) {
      plain_ += piece.text;
      return absl::OkStatus();
    }
    for (size_t at = 0; at < piece.text.size();) {
      const std::string* marker = MarkerAt(piece.text, at);
      if (marker == nullptr) {
        plain_ += piece.text[at++];
        continue;
      }
      RETURN_IF_ERROR(Flush());
      const std::optional<int32_t> id = tokenizer_.SpecialId(*marker);
      CHECK(id.has_value()) << *marker;  // Create looked
      Push(*id);
      at += marker->size();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<RenderedChat> Finish() {
    RETURN_IF_ERROR(Flush());
    return std::move(result_);
  }

 private:
  static const std::string* MarkerAt(const std::string& text, size_t at) {
    for (const std::string& marker : ChatMarkers()) {
      if (text.compare(at, marker.size(), marker) == 0) return &marker;
    }
    return nullptr;
  }
  absl::Status Flush() {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     tokenizer_.Encode(plain_, SpecialMatching::kOff));
    for (const int32_t id : ids) Push(id);
    plain_.clear();
    return absl::OkStatus();
  }
  void Push(int32_t id) {
    result_.tokens.push_back(id);
    result_.sampled.push_back(sampled_);
  }

  const Tokenizer& tokenizer_;
  RenderedChat result_;
  std::string plain_;  // not encoded yet
  bool sampled_ = false;
};

absl::StatusOr<RenderedChat> EncodePieces(
    const Tokenizer& tokenizer, const std::vector<ChatPiece>& pieces) {
  PieceEncoder encoder(tokenizer);
  for (const ChatPiece& piece : pieces) RETURN_IF_ERROR(encoder.Add(piece));
  return encoder.Finish();
}

}  // namespace

absl::StatusOr<std::string> RenderChatText(const std::vector<Message>& messages,
                                           const std::vector<Tool>& tools,
                                           const ChatOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<ChatPiece> pieces,
                   ConversationMarkup(messages, tools, ToMarkup(options)));
  std::string text;
  for (const ChatPiece& piece : pieces) text += piece.text;
  return text;
}

absl::Status CheckPromptEnd(const std::vector<Message>& messages) {
  const std::string role = messages.empty() ? "" : messages.back().role();
  if (role == "user" || role == "developer" || role == "tool") {
    return absl::OkStatus();
  }
  if (messages.empty()) {
    return absl::InvalidArgumentError("messages is empty; a prompt has one");
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "message ", messages.size() - 1, " (role '", role,
      "') is the last: a prompt ends with a message of a user, developer or "
      "tool, after which the assistant writes"));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(
    const Tokenizer* tokenizer) {
  for (const std::string& marker : ChatMarkers()) {
    if (!tokenizer->SpecialId(marker).has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the tokenizer has no added token '", marker,
                       "', which the V3.2 chat format needs"));
    }
  }
  std::unique_ptr<ChatTemplate> result(new ChatTemplate(tokenizer));
  result->eos_ = *tokenizer->SpecialId(kEosToken);
  return result;
}

absl::StatusOr<RenderedChat> ChatTemplate::Render(
    const std::vector<Message>& messages, const std::vector<Tool>& tools,
    const ChatOptions& options) const {
  ASSIGN_OR_RETURN(const std::vector<ChatPiece> pieces,
                   ConversationMarkup(messages, tools, ToMarkup(options)));
  return EncodePieces(*tokenizer_, pieces);
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::RenderPrompt(
    const std::vector<Message>& messages, const std::vector<Tool>& tools,
    const ChatOptions& options) const {
  RETURN_IF_ERROR(CheckPromptEnd(messages));
  ASSIGN_OR_RETURN(RenderedChat chat, Render(messages, tools, options));
  return std::move(chat.tokens);
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::ToolResults(
    const std::vector<std::string>& results, ChatMode mode) const {
  if (results.empty()) {
    return absl::InvalidArgumentError("no tool results to append");
  }
  ASSIGN_OR_RETURN(
      RenderedChat chat,
      EncodePieces(*tokenizer_,
                   ToolResultsMarkup(results, mode == ChatMode::kThinking)));
  return std::move(chat.tokens);
}

}  // namespace temper
