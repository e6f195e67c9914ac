// A rendered conversation before it is text or ids: a list of pieces, each
// either fixed text of the format, in which markers count, or content, in which
// they do not. template.h is the interface; this is its inside.

#ifndef KERNELS_MODEL_CHAT_MARKUP_H_
#define KERNELS_MODEL_CHAT_MARKUP_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/task.pb.h"

namespace temper {

struct ChatPiece {
  std::string text;
  bool markup = false;
  bool sampled = false;  // RenderedChat::sampled
};

// What a conversation is rendered under; see ChatOptions for the meanings.
struct MarkupOptions {
  bool thinking = true;
  bool drop_thinking = true;
  std::string response_format_json;
};

// The pieces of a whole conversation. Errors as RenderChatText.
absl::StatusOr<std::vector<ChatPiece>> ConversationMarkup(
    const std::vector<Message>& messages, const std::vector<Tool>& tools,
    const MarkupOptions& options);

// All the results of one assistant message and the opening that follows.
std::vector<ChatPiece> ToolResultsMarkup(
    const std::vector<std::string>& results, bool thinking);

// The markers that are special tokens, in any order; none begins another, so
// that at most one stands at a place.
const std::vector<std::string>& ChatMarkers();

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_MARKUP_H_
