// A configuration key for a reader: what `temper config explain` shows of
// train's keys and of sft's.
//
// Functions without state; thread-safe.

#ifndef TOOLS_CONFIG_KEY_VIEW_H_
#define TOOLS_CONFIG_KEY_VIEW_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace temper {

struct KeyView {
  std::string verb;  // whose configuration has it: "train" or "sft"
  std::string name;
  std::string section;  // "" outside every section
  std::string type;
  std::optional<std::string> default_text;  // none: it must be given
  std::string limits;
  bool resume_may_change = false;
  std::string meaning;
};

// The key, of train, of sft or of both; never empty. InvalidArgument names the
// nearest key.
absl::StatusOr<std::vector<KeyView>> ExplainKey(const std::string& name);

// Every key, in the order of proto/config.proto, then of sft_config.proto.
std::vector<KeyView> ExplainKeys();

// Several lines for a person.
std::string FormatKey(const KeyView& key);
// A line each, sft's below a title.
std::string FormatKeys(const std::vector<KeyView>& keys);

}  // namespace temper

#endif  // TOOLS_CONFIG_KEY_VIEW_H_
