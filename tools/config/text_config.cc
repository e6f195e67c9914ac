#include "tools/config/text_config.h"

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/text_format.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/status_macros.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_rules.h"

namespace temper {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::io::ErrorCollector;
using google::protobuf::io::Tokenizer;

constexpr char kForm[] =
    "write each key once, as key: value, text in quotes, and a section as "
    "name { }";

// The byte of `line` at `column`, from 0: a tab goes on to the next multiple
// of 8, as protobuf counts.
size_t ByteAt(const std::string& line, int column) {
  size_t at = 0;
  for (int reached = 0; at < line.size() && reached < column; ++at) {
    reached += line[at] == '\t' ? 8 - reached % 8 : 1;
  }
  return at;
}

// The key whose value begins at `line` and `column`, from 0, or "".
std::string KeyBefore(const std::string& text, int line, int column) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (line < 0 || line >= static_cast<int>(lines.size())) return "";
  const std::string& here = lines[line];
  size_t at = ByteAt(here, column);
  const auto skip_space = [&here, &at] {
    while (at > 0 && absl::ascii_isspace(here[at - 1])) --at;
  };
  skip_space();
  if (at > 0 && here[at - 1] == '-') --at;  // a sign is no part of its word
  skip_space();
  if (at == 0 || here[at - 1] != ':') return "";
  --at;
  skip_space();
  const size_t end = at;
  while (at > 0 && (absl::ascii_isalnum(here[at - 1]) || here[at - 1] == '_')) {
    --at;
  }
  return here.substr(at, end - at);
}

// The number at that place if it begins with a minus, else "". The parser parts
// the two, and complains of the sign alone.
std::string NegativeAt(const std::string& text, int line, int column) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (line < 0 || line >= static_cast<int>(lines.size())) return "";
  const std::string number = lines[line].substr(ByteAt(lines[line], column));
  if (number.size() < 2 || number[0] != '-' ||
      !(absl::ascii_isdigit(number[1]) || number[1] == '.')) {
    return "";
  }
  return number.substr(0, number.find_first_not_of("-.0123456789eE"));
}

std::string PlaceText(const std::string& source, int line, int column) {
  return absl::StrCat(source, ":", line + 1, ":", column + 1, ": ");
}

// TextFormat's complaints, the first one kept.
class FirstError : public ErrorCollector {
 public:
  FirstError(const std::string& text, const std::string& source,
             const Descriptor* configuration)
      : text_(text), source_(source), configuration_(configuration) {}

  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!message_.empty()) return;
    message_ = absl::StrCat(
        PlaceText(source_, line, column),
        InOurWords(std::string(absl::StripSuffix(message, ".")), line, column));
  }
  const std::string& message() const { return message_; }

 private:
  // protobuf 3.21: Message type "temper.X" has no field named "y".
  std::string InOurWords(const std::string& message, int line,
                         int column) const {
    const std::vector<std::string> parts = absl::StrSplit(message, '"');
    if (message.find("has no field named") != std::string::npos &&
        parts.size() >= 4) {
      return MisplacedKeyText(
          configuration_, parts[1].substr(parts[1].rfind('.') + 1), parts[3]);
    }
    const std::string key = KeyBefore(text_, line, column);
    const std::string allowed =
        key.empty() ? "" : AllowedText(configuration_, key);
    if (!allowed.empty()) {
      const ConfigLeaf leaf = FindConfigLeaf(configuration_, key);
      const bool number = leaf.field != nullptr && leaf.IsNumber();
      const std::string negative =
          number ? NegativeAt(text_, line, column) : "";
      return absl::StrCat(
          key, ": ",
          negative.empty() ? message : negative + " is outside its limits",
          "; give it ", allowed);
    }
    return absl::StrCat(key, key.empty() ? "" : ": ", message, "; ", kForm);
  }

  const std::string& text_;
  const std::string source_;
  const Descriptor* const configuration_;
  std::string message_;
};

// The parser tells what is wrong with the tokens.
class NoErrors : public ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber,
                const std::string&) override {}
};

// `text` with choices as the parser takes them, without quotes. Blanks stand in
// for those, so that every place in the file stays where it is. InvalidArgument
// for a word that is none of its key's choices, numbers included: the parser
// would take an enum's, known or not.
absl::StatusOr<std::string> UnquoteChoices(const std::string& text,
                                           const std::string& source,
                                           const Descriptor* configuration) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  google::protobuf::io::ArrayInputStream stream(text.data(),
                                                static_cast<int>(text.size()));
  NoErrors errors;
  Tokenizer tokens(&stream, &errors);
  // As TextFormat reads.
  tokens.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
  tokens.set_allow_f_after_float(true);
  tokens.set_require_space_after_number(false);
  tokens.set_allow_multiline_strings(true);
  std::string key;
  bool value_is_next = false;
  while (tokens.Next()) {
    const Tokenizer::Token& token = tokens.current();
    if (!value_is_next) {
      value_is_next = token.text == ":" && !key.empty();
      if (token.text != ":") key = token.text;
      continue;
    }
    value_is_next = false;
    const ConfigLeaf leaf = FindConfigLeaf(configuration, key);
    if (leaf.field == nullptr || !leaf.IsChoice()) continue;
    std::string word = token.text;
    if (token.type == Tokenizer::TYPE_STRING) {
      Tokenizer::ParseString(token.text, &word);
    }
    const absl::Status known = CheckChoice(leaf, word);
    if (!known.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(PlaceText(source, token.line, token.column),
                       std::string(known.message())));
    }
    word.resize(token.text.size(), ' ');
    std::string& line = lines[token.line];
    line.replace(ByteAt(line, token.column), word.size(), word);
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace

absl::Status ParseTextConfig(const std::string& text, const std::string& source,
                             google::protobuf::Message* config) {
  RETURN_IF_ERROR(RefuseByteOrderMark(text, source));
  ASSIGN_OR_RETURN(const std::string unquoted,
                   UnquoteChoices(text, source, config->GetDescriptor()));
  FirstError error(unquoted, source, config->GetDescriptor());
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(unquoted, config)) return absl::OkStatus();
  return absl::InvalidArgumentError(error.message());
}

}  // namespace temper
