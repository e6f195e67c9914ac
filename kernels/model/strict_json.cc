#include "kernels/model/strict_json.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

using Json = nlohmann::json;

// Watches the keys of every open object while the parser builds the value.
class KeyWatcher {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    // Keeping nothing once the text is refused bounds memory as well.
    if (!fault_.empty()) return false;
    if (depth > kJsonDepthMax) {
      fault_ = absl::StrCat("nests deeper than ", kJsonDepthMax);
    } else if (event == Json::parse_event_t::object_start) {
      keys_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const std::string& key = value.get_ref<const std::string&>();
      // Readers differ in which of two they take; a file that two programs read
      // differently is refused.
      if (!keys_.back().insert(key).second) {
        fault_ = absl::StrCat("has the key \"", key, "\" twice");
      }
    }
    return fault_.empty();
  }

  const std::string& fault() const { return fault_; }

 private:
  std::vector<std::set<std::string>> keys_;
  std::string fault_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseStrictJson(const char* text, size_t size,
                                               const std::string& what) {
  // The parser would pass over it, but other programs' would not.
  RETURN_IF_ERROR(RefuseByteOrderMark(text, size, what));
  KeyWatcher watcher;
  Json value = Json::parse(
      text, text + size,
      [&watcher](int depth, Json::parse_event_t event, Json& parsed) {
        return watcher(depth, event, parsed);
      },
      /*allow_exceptions=*/false);
  // First: a watcher that says no makes the parser discard as well, and its own
  // reason says more.
  if (!watcher.fault().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", watcher.fault()));
  }
  if (value.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is not valid JSON"));
  }
  return value;
}

}  // namespace temper
