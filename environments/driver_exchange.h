// One request to the driver of a sandbox and its reply (python_driver.py).

#ifndef ENVIRONMENTS_DRIVER_EXCHANGE_H_
#define ENVIRONMENTS_DRIVER_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/sandbox.h"

namespace temper {

enum class DriverRequest : char {
  kCell = 'c',
  kCall = 'v',
  kProgram = 'x',
  kRestart = 'r',
};

struct DriverReply {
  bool raised = false;
  std::string text;  // what was raised, else what the request's kind answers
};

// `seed` counts in a session's first request. The reply is the candidate's to
// forge: InvalidArgument if it is none of the driver's, or longer than one may
// be. Else fails as Sandbox::Read and Write do.
absl::StatusOr<DriverReply> AskDriver(Sandbox* sandbox, DriverRequest request,
                                      uint64_t seed, const std::string& body,
                                      SteadyTime deadline);

// Several texts as one body.
std::string JoinParts(const std::vector<std::string>& parts);
// The `count` parts of a reply's text; InvalidArgument if it is not that.
absl::StatusOr<std::vector<std::string>> SplitParts(const std::string& text,
                                                    size_t count);

}  // namespace temper

#endif  // ENVIRONMENTS_DRIVER_EXCHANGE_H_
