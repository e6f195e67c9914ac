#include "kernels/model/chat/python_json.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

// repr(float): the shortest digits that read back, fixed between 1e-4 and 1e16.
std::string PythonFloat(double value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(),
                                 value, std::chars_format::scientific);
  const std::string text(buffer.data(), end.ptr);  // [-]d[.ddd]e[+-]dd
  const size_t e = text.find('e');
  const bool negative = text[0] == '-';
  const int exponent = std::stoi(text.substr(e + 1));
  std::string digits;
  for (size_t i = 0; i < e; ++i) {
    if (text[i] >= '0' && text[i] <= '9') digits += text[i];
  }
  const std::string sign = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction =
        digits.size() > 1 ? absl::StrCat(".", digits.substr(1)) : "";
    return absl::StrFormat("%s%c%se%c%02d", sign, digits[0], fraction,
                           exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    return absl::StrCat(sign, "0.", std::string(-exponent - 1, '0'), digits);
  }
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) digits.append(whole - digits.size() + 1, '0');
  return absl::StrCat(sign, digits.substr(0, whole), ".", digits.substr(whole));
}

// Prints events as they come, and not a parsed tree: that has lost a key that
// came twice, and the digits of an integer beyond 64 bits. With `members` set,
// the outermost object is not printed: each of its members goes to an entry of
// its own.
class Printer {
 public:
  explicit Printer(std::vector<JsonMember>* members) : members_(members) {}

  bool null() { return Scalar("null"); }
  bool boolean(bool value) { return Scalar(value ? "true" : "false"); }
  bool number_integer(int64_t value) { return Scalar(absl::StrCat(value)); }
  bool number_unsigned(uint64_t value) { return Scalar(absl::StrCat(value)); }
  bool number_float(double value, const std::string& source) {
    // An integer too long for 64 bits is one in Python all the same.
    const bool integer = source.find_first_of(".eE") == std::string::npos;
    return Scalar(integer ? source : PythonFloat(value));
  }
  bool string(std::string& value) {
    if (AtMember()) {
      members_->back().is_string = true;
      members_->back().value = value;
      return true;
    }
    return Scalar(PythonJsonString(value));
  }
  bool binary(std::vector<uint8_t>&) { return Fail("binary value"); }
  bool start_object(size_t) { return Open('{'); }
  bool end_object() { return Close('}'); }
  bool start_array(size_t) { return Open('['); }
  bool end_array() { return Close(']'); }
  bool key(std::string& name) {
    if (!levels_.back().keys.insert(name).second) {
      return Fail(absl::StrCat("key \"", name, "\" is there twice"));
    }
    if (members_ != nullptr && levels_.size() == 1) {
      members_->push_back({name, /*is_string=*/false, ""});
      return true;
    }
    Separate();
    absl::StrAppend(out(), PythonJsonString(name), ": ");
    after_key_ = true;
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception&) {
    return Fail(absl::StrCat("not JSON at byte ", position));
  }

  const std::string& text() const { return text_; }
  const absl::Status& status() const { return status_; }

 private:
  struct Level {
    bool empty = true;
    std::set<std::string> keys;
  };

  bool AtMember() const { return members_ != nullptr && levels_.size() == 1; }
  std::string* out() {
    return members_ != nullptr ? &members_->back().value : &text_;
  }
  bool Fail(const std::string& what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(what);
    return false;
  }
  // ", " before an item that is not the first and does not follow its key.
  void Separate() {
    if (!levels_.empty() && !AtMember() && !after_key_) {
      if (!levels_.back().empty) *out() += ", ";
    }
    if (!levels_.empty()) levels_.back().empty = false;
    after_key_ = false;
  }
  bool Scalar(const std::string& text) {
    if (members_ != nullptr && levels_.empty()) return Fail("not an object");
    Separate();
    *out() += text;
    return true;
  }
  bool Open(char bracket) {
    if (levels_.size() == static_cast<size_t>(kPythonJsonDepthMax)) {
      status_ = absl::ResourceExhaustedError(absl::StrCat(
          "JSON nested deeper than ", kPythonJsonDepthMax, " levels"));
      return false;
    }
    const bool outermost = members_ != nullptr && levels_.empty();
    if (outermost && bracket != '{') return Fail("not an object");
    if (!outermost) {
      Separate();
      *out() += bracket;
    }
    levels_.emplace_back();
    return true;
  }
  bool Close(char bracket) {
    levels_.pop_back();
    if (members_ == nullptr || !levels_.empty()) *out() += bracket;
    return true;
  }

  std::vector<JsonMember>* const members_;
  std::string text_;
  std::vector<Level> levels_;
  bool after_key_ = false;
  absl::Status status_;
};

absl::Status Print(const std::string& json, Printer* printer) {
  if (json.size() > kPythonJsonBytesMax) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "JSON of ", json.size(), " bytes, at most ", kPythonJsonBytesMax));
  }
  if (!nlohmann::json::sax_parse(json, printer) && printer->status().ok()) {
    return absl::InvalidArgumentError("not JSON");
  }
  return printer->status();
}

}  // namespace

absl::StatusOr<std::string> PythonJson(const std::string& json) {
  Printer printer(nullptr);
  const absl::Status status = Print(json, &printer);
  if (!status.ok()) return status;
  return printer.text();
}

absl::StatusOr<std::vector<JsonMember>> JsonMembers(const std::string& json) {
  std::vector<JsonMember> members;
  Printer printer(&members);
  const absl::Status status = Print(json, &printer);
  if (!status.ok()) return status;
  return members;
}

std::string PythonJsonString(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          out += absl::StrFormat("\\u%04x", static_cast<int>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

}  // namespace temper
