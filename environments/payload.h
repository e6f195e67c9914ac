// What every environment does with a task: passes its prompt on and reads its
// payload strictly. Errors are InvalidArgument, begun with "task ID: ", and
// name the field and what is allowed.
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_PAYLOAD_H_
#define ENVIRONMENTS_PAYLOAD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "nlohmann/json.hpp"
#include "proto/task.pb.h"

namespace temper {

// Enough for any tool that a prompt can show
// (kernels/model/chat/python_json.h).
inline constexpr int kPayloadDepthMax = 64;

// The messages of `task`, and no tools. An error if there are none.
absl::StatusOr<Observation> PromptOf(const Task& task);

// The payload_json of `task`: a JSON object with no other keys than `keys`,
// nested no deeper than kPayloadDepthMax, with no key twice in one object,
// whatever its depth; which of `keys` must be there is the caller's to check. A
// key that nobody reads would be a setting without effect, misspelt as a rule.
absl::StatusOr<nlohmann::ordered_json> ReadPayload(
    const Task& task, const std::vector<std::string>& keys);

// "task ID: payload_json.FIELD WHAT".
absl::Status PayloadFault(const Task& task, const std::string& field,
                          const std::string& what);

}  // namespace temper

#endif  // ENVIRONMENTS_PAYLOAD_H_
