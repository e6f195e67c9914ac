#include "environments/code/code_task.h"

#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "environments/payload.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::ordered_json;

bool IsName(const std::string& text) {
  if (text.empty() || text.size() > 128) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c != '_' && !letter && (i == 0 || c < '0' || c > '9')) return false;
  }
  return true;
}

// Reads one task, with what its faults are told by.
class Reader {
 public:
  Reader(const Task& task, const Json& payload)
      : task_(task), payload_(payload) {}

  absl::StatusOr<CodeTask> Read() {
    CodeTask out;
    ASSIGN_OR_RETURN(const std::string language,
                     Text("language", "python", kCodeBytesMax));
    ASSIGN_OR_RETURN(out.entry_point, Text("entry_point", "", kCodeBytesMax));
    ASSIGN_OR_RETURN(out.prelude, Text("prelude", "", kCodeBytesMax));
    if (language != "python" && language != "cpp") {
      return PayloadFault(task_, "language", "must be \"python\" or \"cpp\"");
    }
    if (language == "cpp") out.language = CodeTask::Language::kCpp;
    function_ = payload_.contains("entry_point");
    if (function_ && (!IsName(out.entry_point) || language == "cpp")) {
      return PayloadFault(task_, "entry_point",
                          "must be the name of a Python function");
    }
    if (!function_ && payload_.contains("prelude")) {
      return PayloadFault(task_, "prelude", "needs an entry_point");
    }
    ASSIGN_OR_RETURN(out.examples, Tests("examples"));
    ASSIGN_OR_RETURN(out.tests, Tests("tests"));
    if (out.tests.empty() ||
        out.tests.size() + out.examples.size() > kTestsMax) {
      return PayloadFault(
          task_, "tests",
          absl::StrCat("must be one at least, with the examples ", kTestsMax,
                       " at most"));
    }
    return out;
  }

 private:
  absl::StatusOr<std::string> Text(const char* key, const char* absent,
                                   size_t bytes_max) {
    if (!payload_.contains(key)) return std::string(absent);
    return Text(payload_[key], key, bytes_max);
  }
  absl::StatusOr<std::string> Text(const Json& value, const std::string& field,
                                   size_t bytes_max) {
    if (value.is_string() &&
        value.get_ref<const std::string&>().size() <= bytes_max) {
      return value.get<std::string>();
    }
    return PayloadFault(
        task_, field,
        absl::StrCat("must be a string of at most ", bytes_max, " bytes"));
  }

  absl::StatusOr<std::vector<CodeTest>> Tests(const char* key) {
    std::vector<CodeTest> tests;
    if (!payload_.contains(key)) return tests;
    const Json& list = payload_[key];
    if (!list.is_array() || list.size() > kTestsMax) {
      return PayloadFault(
          task_, key,
          absl::StrCat("must be a list of at most ", kTestsMax, " objects"));
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string field = absl::StrCat(key, "[", i, "]");
      ASSIGN_OR_RETURN(CodeTest test, function_ ? CallTest(list[i], field)
                                                : ProgramTest(list[i], field));
      tests.push_back(std::move(test));
    }
    return tests;
  }

  // `value` is an object with `required` and some of `optional`, and no more.
  absl::Status CheckKeys(const Json& value, const std::string& field,
                         const std::set<std::string>& required,
                         const std::set<std::string>& optional) {
    size_t found = 0;
    bool good = value.is_object();
    for (auto it = value.begin(); good && it != value.end(); ++it) {
      found += required.count(it.key());
      good = required.count(it.key()) + optional.count(it.key()) > 0;
    }
    if (good && found == required.size()) return absl::OkStatus();
    std::string keys;
    for (const std::string& key : required) absl::StrAppend(&keys, " ", key);
    for (const std::string& key : optional) {
      absl::StrAppend(&keys, " (", key, ")");
    }
    return PayloadFault(task_, field,
                        absl::StrCat("must be an object with the keys", keys));
  }

  absl::StatusOr<CodeTest> ProgramTest(const Json& value,
                                       const std::string& field) {
    RETURN_IF_ERROR(CheckKeys(value, field, {"stdin", "stdout"}, {}));
    CodeTest test;
    ASSIGN_OR_RETURN(test.stdin_text,
                     Text(value["stdin"], field + ".stdin", kStdinBytesMax));
    ASSIGN_OR_RETURN(test.stdout_text,
                     Text(value["stdout"], field + ".stdout", kStdinBytesMax));
    return test;
  }

  absl::StatusOr<PythonValue> Value(const Json& value, const std::string& field,
                                    const char* open, const char* close) {
    ASSIGN_OR_RETURN(const std::string text,
                     Text(value, field, kValueBytesMax));
    auto parsed = ParsePythonValue(absl::StrCat(open, text, close));
    if (parsed.ok()) return parsed;
    return PayloadFault(task_, field,
                        absl::StrCat("is ", parsed.status().message()));
  }

  absl::StatusOr<CodeTest> CallTest(const Json& value,
                                    const std::string& field) {
    const bool root = value.is_object() && value.contains("check") &&
                      value["check"] == "root";
    std::set<std::string> required = {"args", "value"};
    if (root) required.erase("value");
    RETURN_IF_ERROR(CheckKeys(value, field, required, {"check", "tolerance"}));
    CodeTest test;
    const bool none = value["args"].is_string() &&
                      value["args"].get_ref<const std::string&>().empty();
    ASSIGN_OR_RETURN(test.arguments, Value(value["args"], field + ".args", "(",
                                           none ? ")" : ",)"));
    if (!root) {
      ASSIGN_OR_RETURN(test.value,
                       Value(value["value"], field + ".value", "", ""));
    }
    if (value.contains("check")) {
      const auto check = value["check"].is_string()
                             ? ValueCheckNamed(value["check"])
                             : std::nullopt;
      if (!check.has_value() || (*check == ValueCheck::kTruth &&
                                 test.value.kind != PythonValue::Kind::kBool)) {
        return PayloadFault(task_, field + ".check",
                            "must be \"equal\", \"sequence\", \"root\", or of "
                            "a bool \"truth\"");
      }
      test.check = *check;
    }
    if (value.contains("tolerance")) {
      const Json& tolerance = value["tolerance"];
      if (tolerance.is_number()) test.tolerance = tolerance.get<double>();
      if (!tolerance.is_number() || !(test.tolerance >= 0) ||
          !std::isfinite(test.tolerance)) {
        return PayloadFault(task_, field + ".tolerance",
                            "must be a number, not negative");
      }
    }
    return test;
  }

  const Task& task_;
  const Json& payload_;
  bool function_ = false;
};

}  // namespace

absl::StatusOr<CodeTask> ReadCodeTask(const Task& task) {
  ASSIGN_OR_RETURN(const Json payload,
                   ReadPayload(task, {"language", "entry_point", "prelude",
                                      "examples", "tests"}));
  return Reader(task, payload).Read();
}

std::string ExtractCode(const std::string& content) {
  bool fenced = false, inside = false;
  std::string last, open;
  for (const absl::string_view line : absl::StrSplit(content, '\n')) {
    const absl::string_view mark = line.substr(0, 3);
    if (mark != "```") {
      if (inside) absl::StrAppend(&open, line, "\n");
      continue;
    }
    if (inside) last = open;
    open.clear();
    fenced = true;
    inside = !inside;
  }
  return fenced ? last : content;
}

std::string CanonicalOutput(const std::string& output) {
  std::string out;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    const size_t end = line.find_last_not_of(" \t\r\f\v");
    line = line.substr(0, end == absl::string_view::npos ? 0 : end + 1);
    absl::StrAppend(&out, line, "\n");
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

}  // namespace temper
