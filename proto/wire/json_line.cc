#include "proto/wire/json_line.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

std::string FieldsOf(const google::protobuf::Message& message) {
  std::string names;
  const auto* const type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    absl::StrAppend(&names, i == 0 ? "" : ", ", type->field(i)->name());
  }
  return names;
}

}  // namespace

absl::Status ParseJsonLine(const std::string& line, const std::string& where,
                           google::protobuf::Message* message) {
  const auto status =
      google::protobuf::util::JsonStringToMessage(line, message);
  if (status.ok()) return absl::OkStatus();
  // protobuf shows the place on two more lines.
  const std::string text(status.message());
  return absl::InvalidArgumentError(absl::StrCat(
      where, ": ", text.substr(0, text.find('\n')), "; a line is one ",
      message->GetDescriptor()->name(),
      " of proto/task.proto in JSON, of fields ", FieldsOf(*message)));
}

}  // namespace temper
