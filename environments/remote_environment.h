// Episodes of environments that an environment host serves, behind the same
// interface as those in this process.

#ifndef ENVIRONMENTS_REMOTE_ENVIRONMENT_H_
#define ENVIRONMENTS_REMOTE_ENVIRONMENT_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "environments/step_limits.h"

namespace temper {

// Deadlines of calls. A Step that keeps the host's limits ends before step_max
// (step_limits.h), whatever the candidate's code does: past it the host hangs.
// Validate and Reset wait for a host that is starting, up to open_max.
struct RemoteEnvironmentOptions {
  std::chrono::seconds open_max{30};
  std::chrono::seconds step_max = kStepMax;
  std::chrono::seconds grade_max{30};
  std::chrono::seconds close_max{2};
};

// The connection to one host. Thread-safe; a host that is not there, or
// restarts, is connected to again by later calls.
class EnvironmentClient {
 public:
  // `address` as host:port. Does not connect yet.
  EnvironmentClient(const std::string& address,
                    const RemoteEnvironmentOptions& options);
  ~EnvironmentClient();

  // A new episode of the registered environment `name`, to be Reset, whose
  // methods call the host. Beyond what the environment itself returns, they
  // return Unavailable when the host is gone or forgot the episode, and
  // DeadlineExceeded. InvalidArgument if `name` is not registered. Destroying
  // the episode closes it there, or leaves that to the host's idle limit.
  absl::StatusOr<std::unique_ptr<Environment>> NewEnvironment(
      const std::string& name);

  // OK if the host answers within `limit`: for waiting until it is up.
  absl::Status WaitUntilReady(std::chrono::seconds limit);

 private:
  struct Connection;
  class RemoteEnvironment;

  const std::shared_ptr<Connection> connection_;  // shared with episodes
};

}  // namespace temper

#endif  // ENVIRONMENTS_REMOTE_ENVIRONMENT_H_
