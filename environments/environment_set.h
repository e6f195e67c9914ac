// The environments that a process knows: those of the table (registry.h) and
// those that a registry file adds, behind the same questions.

#ifndef ENVIRONMENTS_ENVIRONMENT_SET_H_
#define ENVIRONMENTS_ENVIRONMENT_SET_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "environments/environment_command.h"
#include "environments/remote_environment.h"
#include "proto/registration.pb.h"

namespace temper {

// Where a run's directory says where the command of `name` serves now.
std::string ServedAddressFile(const std::string& run_dir,
                              const std::string& name);

// Thread-safe. Nothing is started or connected to before an environment's first
// Validate or New. Its facts are those that it was registered with.
class EnvironmentSet {
 public:
  // Those of the table, and of the registry file `path`, if it is there. What
  // has a command is started here, behind its walls (environment_command.h), at
  // its first use, by a thread that must outlive that use: the main thread, as
  // a rule. Errors are those of ReadRegistrations.
  static absl::StatusOr<std::unique_ptr<EnvironmentSet>> Open(
      const std::string& path);
  // Those of the table, and of the run in `run_dir`, whose commands `temper env
  // serve` starts.
  static absl::StatusOr<std::unique_ptr<EnvironmentSet>> OfRun(
      const std::string& run_dir);

  // Ends what was started. Episodes must be gone.
  ~EnvironmentSet();

  // All of them: the table's by name, then the file's in its order.
  std::vector<const EnvironmentFacts*> All() const;
  // Null if there is no such environment.
  const EnvironmentFacts* Find(const std::string& name) const;
  // InvalidArgument if there is no such environment, with those there are.
  absl::Status CheckName(const std::string& name) const;
  // Those of the file.
  const std::vector<Registration>& registrations() const {
    return registrations_;
  }

  // Environment::Validate of the environment that `task` names, and a new
  // episode. Of a registered one: Unavailable, naming it, if its command ended
  // or nobody serves at its address; FailedPrecondition if it describes itself
  // otherwise than when it was registered.
  absl::StatusOr<Observation> Validate(const Task& task);
  absl::StatusOr<std::unique_ptr<Environment>> New(
      const std::string& name, const EnvironmentContext& context);
  // Why a call of an episode of `name` gave the error `status`: that the
  // command that was started here has ended, if so; else `status`, by that
  // name.
  absl::Status Explain(const std::string& name, const absl::Status& status);

 private:
  class Registered;

  EnvironmentSet();

  std::vector<Registration> registrations_;
  std::vector<std::unique_ptr<Registered>> registered_;  // of each of them
};

// A registration of `registration`'s name and where it is served, with what it
// says of itself: started, or called, and asked. The errors of a first use
// above; NotFound, with what it does describe, if `name` is not among it.
absl::StatusOr<Registration> Described(Registration registration);

// What `client` says that it serves, once it does: what `command` starts is
// waited for, a minute at most; without one, null, nobody is. Errors as above.
absl::StatusOr<std::vector<EnvironmentDescription>> AwaitDescriptions(
    const Registration& registration, EnvironmentClient* client,
    EnvironmentCommand* command);

// Whether what a program describes is what `registration` has, of the registry
// file `path`; errors as above.
absl::Status CheckAsRegistered(
    const Registration& registration, const std::string& path,
    const std::vector<EnvironmentDescription>& described);

// An error of a start with what to do about it, if it is one of a registration
// that the registry file `path` has.
absl::Status OfRegistry(const absl::Status& status, const std::string& path);

}  // namespace temper

#endif  // ENVIRONMENTS_ENVIRONMENT_SET_H_
