#include "kernels/model/chat/markup.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/preamble.h"
#include "kernels/model/chat/python_json.h"
#include "kernels/model/chat/tokens.h"

namespace temper {
namespace {

const std::string kOpenDsml = absl::StrCat("<", kDsmlToken);
const std::string kCloseDsml = absl::StrCat("</", kDsmlToken);
constexpr char kResponseFormat[] =
    "\n\n## Response Format:\n\nYou MUST strictly adhere to the following "
    "schema to reply:\n";

bool IsUser(const Message& message) {
  return message.role() == "user" || message.role() == "developer";
}

const char* Opening(bool thinking) {
  return thinking ? kThinkToken : kThinkEndToken;
}

// Builds the pieces of one conversation, message by message. `places` says of
// each message which it is of the conversation that was given.
class MarkupWriter {
 public:
  MarkupWriter(const std::vector<Message>& messages,
               const std::vector<size_t>& places,
               const std::vector<Tool>& tools, const MarkupOptions& options)
      : messages_(messages),
        places_(places),
        tools_(tools),
        options_(options) {}

  absl::StatusOr<std::vector<ChatPiece>> Write();

 private:
  void Markup(const std::string& text) {
    if (!text.empty()) pieces_.push_back({text, /*markup=*/true, sampled_});
  }
  void Content(const std::string& text) {
    if (!text.empty()) pieces_.push_back({text, /*markup=*/false, sampled_});
  }
  // What is wrong with message `index`.
  absl::Status At(size_t index, const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("message ", places_[index], " (role '",
                     messages_[index].role(), "'): ", what));
  }
  absl::Status Tools();
  absl::Status ResponseFormat();
  absl::Status User(size_t index);
  absl::Status Assistant(size_t index);
  absl::Status Call(const ToolCall& call);
  absl::Status ToolGroup(size_t begin, size_t end);
  // Sets last_user_ (of user or developer, -1: none) and tools_at_.
  void FindPlaces();

  const std::vector<Message>& messages_;
  const std::vector<size_t>& places_;
  const std::vector<Tool>& tools_;
  const MarkupOptions& options_;
  std::vector<ChatPiece> pieces_;
  bool sampled_ = false;
  int last_user_ = -1;
  int tools_at_ = -1;  // the message that shows the tools
};

void MarkupWriter::FindPlaces() {
  int system = -1, developer = -1;
  for (int i = static_cast<int>(messages_.size()) - 1; i >= 0; --i) {
    if (IsUser(messages_[i])) last_user_ = std::max(last_user_, i);
    if (messages_[i].role() == "system") system = i;
    if (messages_[i].role() == "developer") developer = std::max(developer, i);
  }
  tools_at_ = system >= 0 ? system : developer;
}

absl::Status MarkupWriter::Tools() {
  if (tools_.empty()) return absl::OkStatus();
  Markup("\n\n");
  Markup(kToolPreamble);
  for (const Tool& tool : tools_) {
    absl::StatusOr<std::string> json = PythonJson(tool.function_json());
    if (!json.ok() || json->front() != '{') {
      return absl::InvalidArgumentError(absl::StrCat(
          "tool '", tool.name(), "': function_json: ",
          json.ok() ? "not an object" : std::string(json.status().message())));
    }
    // Content, though it stands inside the format's own text: who wrote the
    // task wrote it, and a marker in a description must not count.
    Content(*json);
    Markup("\n");
  }
  Markup("</functions>\n");
  return absl::OkStatus();
}

absl::Status MarkupWriter::ResponseFormat() {
  if (options_.response_format_json.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> json = PythonJson(options_.response_format_json);
  if (!json.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("response_format_json: ", json.status().message()));
  }
  Markup(kResponseFormat);
  Content(*json);
  return absl::OkStatus();
}

absl::Status MarkupWriter::User(size_t index) {
  const Message& message = messages_[index];
  Markup(kUserToken);
  if (message.role() == "developer") {
    if (static_cast<int>(index) == tools_at_) {
      RETURN_IF_ERROR(Tools());
      RETURN_IF_ERROR(ResponseFormat());
    }
    Markup("\n\n# The user's message is: ");
  }
  Content(message.content());
  Markup(kAssistantToken);
  // The answer to an earlier user is shown without its reasoning, as if it had
  // been written in chat mode.
  Markup(Opening(options_.thinking && static_cast<int>(index) == last_user_));
  return absl::OkStatus();
}

absl::Status MarkupWriter::Call(const ToolCall& call) {
  const auto members = JsonMembers(call.arguments_json());
  if (!members.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("arguments_json: ", members.status().message()));
  }
  Markup(absl::StrCat(kOpenDsml, "invoke name=\""));
  Content(call.name());
  Markup("\">\n");
  // The format puts new lines between parameters and around all of them: with
  // none, an empty line is left, which the parser takes too.
  for (size_t i = 0; i < members->size(); ++i) {
    if (i > 0) Markup("\n");
    Markup(absl::StrCat(kOpenDsml, "parameter name=\""));
    Content((*members)[i].key);
    Markup((*members)[i].is_string ? "\" string=\"true\">"
                                   : "\" string=\"false\">");
    Content((*members)[i].value);
    Markup(absl::StrCat(kCloseDsml, "parameter>"));
  }
  Markup(absl::StrCat("\n", kCloseDsml, "invoke>"));
  return absl::OkStatus();
}

absl::Status MarkupWriter::Assistant(size_t index) {
  const Message& message = messages_[index];
  const bool after = static_cast<int>(index) > last_user_;
  // What is shown without the reasoning that it was sampled behind is nothing
  // to learn: it would teach answering without.
  sampled_ = after || !options_.thinking;
  if (options_.thinking && after) {
    if (message.reasoning_content().empty() && message.tool_calls().empty()) {
      return At(index,
                "in thinking mode an assistant message after the last user "
                "message needs reasoning_content or tool_calls; give it what "
                "it is to think first as \"reasoning_content\": \"...\"");
    }
    Content(message.reasoning_content());
    Markup(kThinkEndToken);
  }
  Content(message.content());
  if (!message.tool_calls().empty()) {
    Markup(absl::StrCat("\n\n", kOpenDsml, "function_calls>\n"));
    for (int i = 0; i < message.tool_calls_size(); ++i) {
      const absl::Status status = Call(message.tool_calls(i));
      if (!status.ok()) {
        return At(index, absl::StrCat("tool call ", i, ": ", status.message()));
      }
      Markup("\n");
    }
    Markup(absl::StrCat(kCloseDsml, "function_calls>"));
  }
  Markup(kEosToken);
  sampled_ = false;
  return absl::OkStatus();
}

// Messages [begin, end) answer the calls of message begin - 1.
absl::Status MarkupWriter::ToolGroup(size_t begin, size_t end) {
  const int calls = begin == 0 ? 0 : messages_[begin - 1].tool_calls_size();
  const size_t results = end - begin;
  if (calls == 0 || static_cast<size_t>(calls) != results) {
    return At(begin,
              absl::StrCat(results, " results follow a message with ", calls,
                           " tool calls; as many follow an assistant's "
                           "message as it has tool_calls"));
  }
  std::vector<std::string> contents;
  for (size_t i = begin; i < end; ++i)
    contents.push_back(messages_[i].content());
  // The opening belongs to the last result, whose index counts.
  const bool thinking =
      options_.thinking && static_cast<int>(end) - 1 >= last_user_;
  for (ChatPiece& piece : ToolResultsMarkup(contents, thinking)) {
    pieces_.push_back(std::move(piece));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ChatPiece>> MarkupWriter::Write() {
  FindPlaces();
  Markup(kBosToken);
  if (tools_at_ < 0) {
    RETURN_IF_ERROR(Tools());
    RETURN_IF_ERROR(ResponseFormat());
  }
  for (size_t i = 0; i < messages_.size(); ++i) {
    const Message& message = messages_[i];
    const std::string& role = message.role();
    if (role != "assistant" && (!message.tool_calls().empty() ||
                                !message.reasoning_content().empty())) {
      return At(i, "only an assistant has tool_calls or reasoning");
    }
    if (role == "system") {
      Content(message.content());
      if (static_cast<int>(i) == tools_at_) {
        RETURN_IF_ERROR(Tools());
        RETURN_IF_ERROR(ResponseFormat());
      }
    } else if (IsUser(message)) {
      RETURN_IF_ERROR(User(i));
    } else if (role == "assistant") {
      RETURN_IF_ERROR(Assistant(i));
    } else if (role == "tool") {
      size_t end = i;
      while (end < messages_.size() && messages_[end].role() == "tool") ++end;
      RETURN_IF_ERROR(ToolGroup(i, end));
      i = end - 1;
    } else {
      return At(
          i, "unknown role; known: system, developer, user, assistant, tool");
    }
  }
  return std::move(pieces_);
}

}  // namespace

absl::StatusOr<std::vector<ChatPiece>> ConversationMarkup(
    const std::vector<Message>& messages, const std::vector<Tool>& tools,
    const MarkupOptions& options) {
  // Thinking drops old developer messages.
  size_t first = 0;
  if (options.thinking && options.drop_thinking) {
    const auto last = std::find_if(messages.rbegin(), messages.rend(), IsUser);
    if (last != messages.rend()) first = messages.rend() - last - 1;
  }
  // Left out before the writer looks for the last user message and the place of
  // the tools: both are of what is shown.
  std::vector<Message> kept;
  std::vector<size_t> places;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role() == "developer" && i < first) continue;
    kept.push_back(messages[i]);
    places.push_back(i);
  }
  return MarkupWriter(kept, places, tools, options).Write();
}

std::vector<ChatPiece> ToolResultsMarkup(
    const std::vector<std::string>& results, bool thinking) {
  std::vector<ChatPiece> pieces = {{"\n\n<function_results>", /*markup=*/true}};
  for (const std::string& result : results) {
    pieces.push_back({"\n<result>", /*markup=*/true});
    pieces.push_back({result});
    pieces.push_back({"</result>", /*markup=*/true});
  }
  pieces.push_back(
      {absl::StrCat("\n</function_results>\n\n", Opening(thinking)),
       /*markup=*/true});
  return pieces;
}

const std::vector<std::string>& ChatMarkers() {
  static const auto* const markers = new std::vector<std::string>{
      kBosToken,   kEosToken,      kUserToken, kAssistantToken,
      kThinkToken, kThinkEndToken, kDsmlToken};
  return *markers;
}

}  // namespace temper
