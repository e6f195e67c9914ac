#include "environments/payload.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/text.h"

namespace temper {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownBytesMax = 64;

absl::Status Fault(const Task& task, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("task ", task.id(), ": ", what));
}

}  // namespace

absl::Status PayloadFault(const Task& task, const std::string& field,
                          const std::string& what) {
  return Fault(task, absl::StrCat("payload_json.", field, " ", what));
}

absl::StatusOr<Observation> PromptOf(const Task& task) {
  if (task.messages().empty()) {
    return Fault(task, "messages is empty; the prompt has one at least");
  }
  Observation observation;
  observation.messages.assign(task.messages().begin(), task.messages().end());
  return observation;
}

absl::StatusOr<Json> ReadPayload(const Task& task,
                                 const std::vector<std::string>& keys) {
  const std::string allowed =
      absl::StrCat("its keys are ", absl::StrJoin(keys, ", "));
  std::vector<std::set<std::string>> seen;  // keys of the objects around
  std::string fault;
  // A repeated key is gone once the object is made.
  const auto look = [&](int depth, Json::parse_event_t event,
                        const Json& parsed) {
    if (!fault.empty()) return false;  // nothing more is kept
    const bool opens = event == Json::parse_event_t::object_start ||
                       event == Json::parse_event_t::array_start;
    if (opens && depth >= kPayloadDepthMax) {
      fault = absl::StrCat("nests deeper than ", kPayloadDepthMax);
    } else if (event == Json::parse_event_t::object_start) {
      seen.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      seen.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const std::string key = parsed.get<std::string>();
      const bool known = depth > 1 || std::count(keys.begin(), keys.end(), key);
      if (!known || !seen.back().insert(key).second) {
        fault = absl::StrCat(known ? "has twice the key \"" : "has the key \"",
                             SanitizeText(key, kShownBytesMax), "\"",
                             depth == 1 ? "; " + allowed : "");
      }
    }
    return fault.empty();
  };
  // Without exceptions: what is no JSON is told as any other fault.
  Json payload =
      Json::parse(task.payload_json(), look, /*allow_exceptions=*/false);
  // First: a payload that `look` refuses is discarded as well.
  if (!fault.empty()) return Fault(task, "payload_json " + fault);
  if (!payload.is_object()) {
    return Fault(task, absl::StrCat("payload_json is ",
                                    payload.is_discarded() ? "not JSON"
                                                           : "no JSON object",
                                    "; ", allowed));
  }
  return payload;
}

}  // namespace temper
