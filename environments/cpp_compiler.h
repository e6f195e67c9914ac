// What C++ in a sandbox needs of the machine: a compiler, and a cgroup that
// holds the memory of a sandbox, for without one each process has too little
// for a compiler (sandbox_policy.h). Functions without state; thread-safe.

#ifndef ENVIRONMENTS_CPP_COMPILER_H_
#define ENVIRONMENTS_CPP_COMPILER_H_

#include <string>

#include "absl/status/status.h"
#include "environments/cgroup.h"

namespace temper {

// OK where C++ can be compiled in a sandbox here; else FailedPrecondition, with
// what is missing and what to do. Looked for once a process.
absl::Status CanCompileCpp();

// The same of a machine with the executable `compiler` and `cgroups`.
absl::Status CanCompileCppBy(const std::string& compiler,
                             const CgroupHierarchy& cgroups);

}  // namespace temper

#endif  // ENVIRONMENTS_CPP_COMPILER_H_
