// Episodes of environments that an environment host serves, behind the same
// interface as those in this process.

#ifndef ENVIRONMENTS_REMOTE_ENVIRONMENT_H_
#define ENVIRONMENTS_REMOTE_ENVIRONMENT_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "environments/step_limits.h"
#include "proto/environment.pb.h"

namespace temper {

// Deadlines of calls, or lower ones where the environment's facts have them. A
// Step or a Grade that keeps the host's limits ends before its own
// (step_limits.h), whatever the candidate's code does: past it the host hangs.
// Validate and Reset wait for a host that is starting, is full,
// or comes back elsewhere, up to open_max.
struct RemoteEnvironmentOptions {
  std::chrono::seconds open_max{30};
  std::chrono::seconds step_max = kStepMax;
  std::chrono::seconds grade_max = kStepMax;
  std::chrono::seconds close_max{2};
  // How often the host is told which episodes are held; well below its
  // client_silence_max.
  std::chrono::milliseconds hold_every{10'000};
};

// Where the host is now, host:port; an error or "" while that is not known.
// Called from several threads at once.
using HostAddress = std::function<absl::StatusOr<std::string>()>;

// The connection to one host. Thread-safe; a host that is not there, or
// restarts, is connected to again by later calls, at another address if it has
// one then. While there are episodes a thread tells the host of them: so those
// of a process that died are given back soon, and a long turn loses none.
class EnvironmentClient {
 public:
  // Does not connect yet.
  EnvironmentClient(HostAddress address,
                    const RemoteEnvironmentOptions& options);
  ~EnvironmentClient();

  // A new episode of the registered environment `name`, to be Reset, whose
  // methods call the host. Beyond what the environment itself returns, they
  // return Unavailable when the host is gone or forgot the episode,
  // DeadlineExceeded, and Internal for a reply that no environment may give
  // (reply_check.h). InvalidArgument if `name` is not registered. Destroying
  // the episode closes it there, at the latest when the host is next told which
  // are held.
  absl::StatusOr<std::unique_ptr<Environment>> NewEnvironment(
      const std::string& name);
  // The same of an environment that is known by `facts`, which outlive it.
  std::unique_ptr<Environment> NewEnvironment(const EnvironmentFacts* facts);

  // What the host says that it serves. InvalidArgument, naming the field, for
  // what CheckDescription (described_facts.h) refuses.
  absl::StatusOr<std::vector<EnvironmentDescription>> Describe(
      std::chrono::milliseconds limit);

  // OK if the host answers within `limit`: for waiting until it is up.
  absl::Status WaitUntilReady(std::chrono::seconds limit);

 private:
  class Connection;
  class RemoteEnvironment;

  const std::shared_ptr<Connection> connection_;  // shared with episodes
};

}  // namespace temper

#endif  // ENVIRONMENTS_REMOTE_ENVIRONMENT_H_
