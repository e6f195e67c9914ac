// The one place that knows which devices there are: whoever computes, verbs and
// tests alike, asks for a backend by name.

#ifndef KERNELS_FIND_BACKEND_H_
#define KERNELS_FIND_BACKEND_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"

namespace temper {

struct BackendSpec {
  std::string name;  // of BackendNames(), or "cuda"; empty: the fastest tier
  int threads = 1;   // that compute, the caller included; at least 1
};

// The CPU's tiers that this machine can run (kernels/cpu/cpu_tier.h), slowest
// first; the first is the definition of every number. A GPU is asked for by its
// name, "cuda", alone.
std::vector<std::string> BackendNames();

struct BackendChoice {
  std::string name;  // one of BackendNames()
  std::string why;   // for a plan: "the fastest that this CPU has"
};

// Which of them FindBackend gives for `name`: itself, or the fastest here. Its
// errors, but that the backend named is not tried.
absl::StatusOr<BackendChoice> ChooseBackend(const std::string& name);

// InvalidArgument, naming those there are, for a name that is none of them;
// FailedPrecondition where the machine can run none, where the backend does not
// reproduce the definition, or for "cuda" where there is no GPU or the program
// was built without it. The calling thread must have the float mode of
// kernels/base/float_mode.h (CHECKed).
absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec);

}  // namespace temper

#endif  // KERNELS_FIND_BACKEND_H_
