// The registry file: environments that are not in the table of registry.h, one
// a line (proto/registration.proto).
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_REGISTRATION_H_
#define ENVIRONMENTS_REGISTRATION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/registration.pb.h"

namespace temper {

// Where `temper` looks, from the directory that it is started in; and what a
// run keeps of it, in its own.
inline constexpr char kRegistryFile[] = "environments.jsonl";

// OK for a line that such a file may have. InvalidArgument names what is wrong;
// so is a name that the table has.
absl::Status CheckRegistration(const Registration& registration);

// Those of the file `path`, in its order; none if there is no such file.
// InvalidArgument names the line.
absl::StatusOr<std::vector<Registration>> ReadRegistrations(
    const std::string& path);

// Writes them so that a crash leaves the old file or the new one.
absl::Status WriteRegistrations(const std::string& path,
                                const std::vector<Registration>& all);

// Whether a Step of one of them may stay open (EnvironmentFacts::open_steps),
// as none of the table's does.
bool HaveOpenSteps(const std::vector<Registration>& registrations);

// "python3 environment.py in /a/b", or the address.
std::string WhereServed(const Registration& registration);

}  // namespace temper

#endif  // ENVIRONMENTS_REGISTRATION_H_
