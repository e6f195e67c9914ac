#include "proto/wire/json_line.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/stubs/common.h"
#include "google/protobuf/util/json_util.h"

namespace temper {
namespace {

constexpr char kByteOrderMark[] = "\xEF\xBB\xBF";

// "id, messages {role, content}".
std::string FieldsOf(const google::protobuf::Descriptor& type) {
  std::string names;
  for (int i = 0; i < type.field_count(); ++i) {
    const auto* const field = type.field(i);
    absl::StrAppend(&names, i == 0 ? "" : ", ", field->name());
    if (field->message_type() == nullptr) continue;
    absl::StrAppend(&names, " {", FieldsOf(*field->message_type()), "}");
  }
  return names;
}

// The code unit of the escape (\uXXXX) at `at` of `line`; 0 if there is none.
uint32_t CodeUnit(const std::string& line, size_t at) {
  if (line.compare(at, 2, "\\u") != 0 || line.size() - at < 6) return 0;
  const std::string digits = line.substr(at + 2, 4);
  if (!std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return 0;
  }
  return static_cast<uint32_t>(std::stoul(digits, nullptr, 16));
}

// Where in `line` an escape stands that is half of a surrogate pair without the
// other half: no character. npos if there is none.
size_t LoneSurrogate(const std::string& line) {
  for (size_t i = line.find('\\'); i != std::string::npos;) {
    const uint32_t unit = CodeUnit(line, i);
    const bool high = unit >= 0xD800 && unit < 0xDC00;
    const bool low = unit >= 0xDC00 && unit < 0xE000;
    size_t end = i + 2;
    if (high) {
      const uint32_t next = CodeUnit(line, i + 6);
      if (next < 0xDC00 || next >= 0xE000) return i;
      end = i + 12;
    }
    if (low) return i;
    i = line.find('\\', end);
  }
  return std::string::npos;
}

// What protobuf's words for it leave open.
std::string Hint(const std::string& line, const std::string& error) {
  // An editor's, and not to be seen in one: the first line is refused at its
  // first character.
  if (absl::StartsWith(line, kByteOrderMark)) {
    return "; the line begins with a byte-order mark: save the file without it";
  }
  const size_t name = error.rfind(' ') + 1;
  if (absl::StrContains(error, "on a scalar field") &&
      absl::EndsWith(error, "_json")) {
    return absl::StrCat("; ", error.substr(name),
                        " is a string that holds the JSON");
  }
  return "";
}

}  // namespace

absl::Status ParseJsonLine(const std::string& line, const std::string& where,
                           google::protobuf::Message* message) {
  const auto status =
      google::protobuf::util::JsonStringToMessage(line, message);
  if (status.ok()) return absl::OkStatus();
  // protobuf shows the place on two more lines.
  std::string text(status.message());
  text = text.substr(0, text.find('\n'));
  if (absl::StartsWith(text, ": ")) text = text.substr(2);  // of the root
  if (absl::StrContains(text, "non UTF-8")) {
    const auto at = static_cast<size_t>(
        google::protobuf::internal::UTF8SpnStructurallyValid(line));
    text = absl::StrCat(
        "byte ", at + 1, " (0x",
        absl::Hex(static_cast<uint8_t>(line[std::min(at, line.size() - 1)]),
                  absl::kZeroPad2),
        ") is not UTF-8: save the file as UTF-8");
  }
  // Which protobuf tells by three messages, of no place.
  const size_t half = LoneSurrogate(line);
  if (half != std::string::npos) {
    text = absl::StrCat("byte ", half + 1, " (", line.substr(half, 6),
                        ") is half of a surrogate pair: write both halves, or "
                        "the character itself");
  }
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": ", text, Hint(line, text), "; a line is one ",
                   message->GetDescriptor()->name(),
                   " of proto/task.proto in JSON, of fields ",
                   FieldsOf(*message->GetDescriptor())));
}

}  // namespace temper
