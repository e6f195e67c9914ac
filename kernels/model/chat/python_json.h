// JSON as Python's json.dumps(..., ensure_ascii=False) prints it: ", " and ": "
// between items, floats by repr, characters above U+007F as they are. The
// models were trained on prompts printed so; another spacing is another prompt.
// Pure functions.

#ifndef KERNELS_MODEL_CHAT_PYTHON_JSON_H_
#define KERNELS_MODEL_CHAT_PYTHON_JSON_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace temper {

// What is printed comes from tasks and from the model.
inline constexpr int kPythonJsonDepthMax = 64;
inline constexpr size_t kPythonJsonBytesMax = 1 << 20;

// `json` printed anew, members in their order. InvalidArgument: not one JSON
// value, or a key twice in an object. ResourceExhausted: too long or too deep.
absl::StatusOr<std::string> PythonJson(const std::string& json);

struct JsonMember {
  std::string key;
  bool is_string;
  std::string value;  // of a string: itself, no quotes; else as PythonJson
};

// The members of the JSON object `json`, in order. Errors as PythonJson, and
// InvalidArgument if it is no object.
absl::StatusOr<std::vector<JsonMember>> JsonMembers(const std::string& json);

// `text` as a JSON string, quotes included. `text` is UTF-8.
std::string PythonJsonString(const std::string& text);

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_PYTHON_JSON_H_
