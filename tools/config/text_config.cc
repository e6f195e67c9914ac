#include "tools/config/text_config.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kForm[] =
    "write each key once, as key: value, text in quotes, and a section as "
    "name { }";

// The key whose value begins at `line` and `column` (from 0; a tab goes on to
// the next multiple of 8, as protobuf counts), or "".
std::string KeyBefore(const std::string& text, int line, int column) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (line < 0 || line >= static_cast<int>(lines.size())) return "";
  const std::string& here = lines[line];
  size_t at = 0;
  for (int reached = 0; at < here.size() && reached < column; ++at) {
    reached += here[at] == '\t' ? 8 - reached % 8 : 1;
  }
  const auto skip_space = [&here, &at] {
    while (at > 0 && absl::ascii_isspace(here[at - 1])) --at;
  };
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

// TextFormat's complaints, the first one kept.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  FirstError(const std::string& text, const std::string& source,
             const UnknownKeyText& unknown_key, const AllowedText& allowed)
      : text_(text),
        source_(source),
        unknown_key_(unknown_key),
        allowed_(allowed) {}

  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!message_.empty()) return;
    message_ = absl::StrCat(source_, ":", line + 1, ":", column + 1, ": ",
                            InOurWords(message, line, column));
  }

  const std::string& message() const { return message_; }

 private:
  // protobuf 3.21: Message type "temper.X" has no field named "y".
  std::string InOurWords(const std::string& message, int line,
                         int column) const {
    const std::vector<std::string> parts = absl::StrSplit(message, '"');
    if (message.find("has no field named") != std::string::npos &&
        parts.size() >= 4) {
      return unknown_key_(parts[1].substr(parts[1].rfind('.') + 1), parts[3]);
    }
    const std::string key = KeyBefore(text_, line, column);
    const std::string allowed = key.empty() || !allowed_ ? "" : allowed_(key);
    if (!allowed.empty()) {
      return absl::StrCat(key, ": ", message, "; give it ", allowed);
    }
    return absl::StrCat(key, key.empty() ? "" : ": ", message, "; ", kForm);
  }

  const std::string& text_;
  const std::string source_;
  const UnknownKeyText& unknown_key_;
  const AllowedText& allowed_;
  std::string message_;
};

}  // namespace

absl::Status ParseTextConfig(const std::string& text, const std::string& source,
                             const UnknownKeyText& unknown_key,
                             google::protobuf::Message* config,
                             const AllowedText& allowed) {
  RETURN_IF_ERROR(RefuseByteOrderMark(text, source));
  FirstError error(text, source, unknown_key, allowed);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(text, config)) return absl::OkStatus();
  return absl::InvalidArgumentError(error.message());
}

}  // namespace temper
