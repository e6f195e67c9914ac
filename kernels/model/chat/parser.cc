#include "kernels/model/chat/parser.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "kernels/model/chat/markup.h"
#include "kernels/model/chat/python_json.h"
#include "kernels/model/chat/tokens.h"

namespace temper {
namespace {

// A completion is a string of symbols: bytes, and above them the special
// tokens, ChatMarkers()[i] as kMarker + i and any other as kOtherSpecial. One
// search then finds a marker only where its token stands: no bytes equal it.
using Symbols = std::u16string;
constexpr char16_t kMarker = 0x100;
constexpr char16_t kOtherSpecial = 0x1FF;

char16_t MarkerSymbol(const std::string& marker) {
  const std::vector<std::string>& markers = ChatMarkers();
  for (size_t i = 0; i < markers.size(); ++i) {
    if (markers[i] == marker) return static_cast<char16_t>(kMarker + i);
  }
  CHECK(false) << marker << " is no marker";
  return 0;
}

void AppendBytes(const std::string& bytes, Symbols* out) {
  for (const char byte : bytes) {
    out->push_back(static_cast<char16_t>(static_cast<uint8_t>(byte)));
  }
}

// Fixed text of the format, in which every marker counts.
Symbols FromText(const std::string& text) {
  Symbols out;
  for (size_t at = 0; at < text.size();) {
    size_t length = 0;
    for (const std::string& marker : ChatMarkers()) {
      if (text.compare(at, marker.size(), marker) != 0) continue;
      out.push_back(MarkerSymbol(marker));
      length = marker.size();
    }
    if (length == 0) {
      AppendBytes(text.substr(at, 1), &out);
      length = 1;
    }
    at += length;
  }
  return out;
}

class Parser {
 public:
  explicit Parser(const Symbols& symbols) : symbols_(symbols) {}

  absl::StatusOr<Message> Run(ChatMode mode);

 private:
  absl::Status Expected(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("at byte ", at_, " of the completion: expected ", what));
  }
  bool Take(const Symbols& text) {
    if (symbols_.compare(at_, text.size(), text) != 0) return false;
    at_ += text.size();
    return true;
  }
  // Takes text up to `end`, and `end`. Special tokens before it are an error.
  absl::StatusOr<std::string> TakeUntil(const Symbols& end,
                                        const std::string& what);
  absl::StatusOr<std::string> ToText(size_t begin, size_t end) const;
  absl::Status Calls(Message* message);
  absl::Status Invoke(ToolCall* call);
  absl::Status Parameter(std::set<std::string>* keys, std::string* json);

  const Symbols& symbols_;
  size_t at_ = 0;
};

absl::StatusOr<std::string> Parser::ToText(size_t begin, size_t end) const {
  std::string text;
  for (size_t i = begin; i < end; ++i) {
    if (symbols_[i] >= kMarker) {
      return absl::InvalidArgumentError(absl::StrCat(
          "at byte ", i, " of the completion: a special token inside text"));
    }
    text.push_back(static_cast<char>(symbols_[i]));
  }
  const size_t valid = ValidUtf8Prefix(text);
  if (valid != text.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "at byte ", begin + valid, " of the completion: not UTF-8"));
  }
  return text;
}

absl::StatusOr<std::string> Parser::TakeUntil(const Symbols& end,
                                              const std::string& what) {
  const size_t found = symbols_.find(end, at_);
  if (found == Symbols::npos) return Expected(what);
  ASSIGN_OR_RETURN(std::string text, ToText(at_, found));
  at_ = found + end.size();
  return text;
}

const std::string kDsml = kDsmlToken;

absl::Status Parser::Parameter(std::set<std::string>* keys, std::string* json) {
  ASSIGN_OR_RETURN(const std::string key,
                   TakeUntil(u"\" string=\"", "string=\"true|false\""));
  // Of two values one would have to be dropped, and the model not told which.
  if (!keys->insert(key).second) {
    return Expected(absl::StrCat("a new parameter, not '", key, "' again"));
  }
  const bool is_string = Take(u"true\">");
  if (!is_string && !Take(u"false\">")) return Expected("true\"> or false\">");
  static const Symbols close =
      FromText(absl::StrCat("</", kDsml, "parameter>\n"));
  const size_t value_at = at_;
  ASSIGN_OR_RETURN(const std::string value,
                   TakeUntil(close, "the end of the parameter"));
  if (!is_string && !PythonJson(value).ok()) {
    at_ = value_at;  // the message names where the value begins
    return Expected("JSON, for string is \"false\"");
  }
  absl::StrAppend(json, keys->size() > 1 ? ", " : "", PythonJsonString(key),
                  ": ", is_string ? PythonJsonString(value) : value);
  return absl::OkStatus();
}

absl::Status Parser::Invoke(ToolCall* call) {
  static const Symbols parameter =
      FromText(absl::StrCat("<", kDsml, "parameter name=\""));
  static const Symbols close = FromText(absl::StrCat("</", kDsml, "invoke>\n"));
  static const Symbols close_empty = u"\n" + close;
  ASSIGN_OR_RETURN(const std::string name,
                   TakeUntil(u"\">\n", "\"> and a new line after the name"));
  call->set_name(name);
  std::string json = "{";
  std::set<std::string> keys;
  while (Take(parameter)) RETURN_IF_ERROR(Parameter(&keys, &json));
  if (!Take(close) && !(keys.empty() && Take(close_empty))) {
    return Expected("a parameter or the end of the invoke");
  }
  call->set_arguments_json(json + "}");
  return absl::OkStatus();
}

absl::Status Parser::Calls(Message* message) {
  static const Symbols invoke =
      FromText(absl::StrCat("<", kDsml, "invoke name=\""));
  static const Symbols close =
      FromText(absl::StrCat("</", kDsml, "function_calls>"));
  if (!Take(u">\n")) return Expected(">, a new line and the first invoke");
  while (Take(invoke)) RETURN_IF_ERROR(Invoke(message->add_tool_calls()));
  if (!Take(close)) return Expected("an invoke or the end of the calls");
  return absl::OkStatus();
}

absl::StatusOr<Message> Parser::Run(ChatMode mode) {
  static const Symbols eos = FromText(kEosToken);
  static const Symbols think_end = FromText(kThinkEndToken);
  static const Symbols calls =
      FromText(absl::StrCat("\n\n<", kDsml, "function_calls"));
  Message message;
  message.set_role("assistant");
  if (mode == ChatMode::kThinking) {
    ASSIGN_OR_RETURN(const std::string reasoning,
                     TakeUntil(think_end, kThinkEndToken));
    message.set_reasoning_content(reasoning);
  }
  // Whichever comes first: calls behind an EOS are no calls.
  const size_t content_end =
      std::min(symbols_.find(eos, at_), symbols_.find(calls, at_));
  if (content_end == Symbols::npos) {
    at_ = symbols_.size();
    return Expected("the end-of-sentence token");
  }
  ASSIGN_OR_RETURN(const std::string content, ToText(at_, content_end));
  message.set_content(content);
  at_ = content_end;
  if (Take(calls)) RETURN_IF_ERROR(Calls(&message));
  if (!Take(eos)) return Expected("the end-of-sentence token");
  if (at_ != symbols_.size()) return Expected("nothing after the end");
  return message;
}

}  // namespace

absl::StatusOr<Message> ParseChatText(const std::string& text, ChatMode mode) {
  const Symbols symbols = FromText(text);
  return Parser(symbols).Run(mode);
}

absl::StatusOr<std::unique_ptr<ChatParser>> ChatParser::Create(
    const Tokenizer* tokenizer) {
  std::unique_ptr<ChatParser> result(new ChatParser(tokenizer));
  for (const std::string& marker : ChatMarkers()) {
    const std::optional<int32_t> id = tokenizer->SpecialId(marker);
    if (!id.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the tokenizer has no added token '", marker,
                       "', which the V3.2 chat format needs"));
    }
    result->symbols_[*id] = MarkerSymbol(marker);
  }
  return result;
}

absl::StatusOr<Message> ChatParser::Parse(const std::vector<int32_t>& ids,
                                          ChatMode mode) const {
  Symbols symbols;
  for (const int32_t id : ids) {
    const auto marker = symbols_.find(id);
    if (marker != symbols_.end()) {
      symbols.push_back(marker->second);
    } else if (tokenizer_->IsSpecial(id)) {
      symbols.push_back(kOtherSpecial);
    } else if (const std::string* bytes = tokenizer_->TokenBytes(id)) {
      AppendBytes(*bytes, &symbols);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " is not in the vocabulary"));
    }
  }
  return Parser(symbols).Run(mode);
}

}  // namespace temper
