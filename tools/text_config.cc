#include "tools/text_config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace temper {
namespace {

// TextFormat's complaints, the first one kept.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  FirstError(const std::string& source, const UnknownKeyText& unknown_key)
      : source_(source), unknown_key_(unknown_key) {}

  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!message_.empty()) return;
    message_ = absl::StrCat(source_, ":", line + 1, ":", column + 1, ": ",
                            InOurWords(message));
  }

  const std::string& message() const { return message_; }

 private:
  // protobuf 3.21: Message type "temper.X" has no field named "y".
  std::string InOurWords(const std::string& message) const {
    if (message.find("has no field named") == std::string::npos) {
      return message;
    }
    const std::vector<std::string> parts = absl::StrSplit(message, '"');
    return parts.size() < 4 ? message : unknown_key_(parts[3]);
  }

  const std::string source_;
  const UnknownKeyText& unknown_key_;
  std::string message_;
};

}  // namespace

absl::Status ParseTextConfig(const std::string& text, const std::string& source,
                             const UnknownKeyText& unknown_key,
                             google::protobuf::Message* config) {
  FirstError error(source, unknown_key);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(text, config)) return absl::OkStatus();
  return absl::InvalidArgumentError(error.message());
}

}  // namespace temper
