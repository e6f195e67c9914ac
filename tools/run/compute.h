// The backend a verb computes with: the tier that TEMPER_ISA names or the best
// there is, and so many threads.

#ifndef TOOLS_RUN_COMPUTE_H_
#define TOOLS_RUN_COMPUTE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"

namespace temper {

// `threads` 0 stands for this machine's cores. The calling thread must have the
// float mode that main sets.
absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(int threads);

// What the backend above would use, for the printed plan: "avx2".
absl::StatusOr<std::string> ComputeTierName();
int ComputeThreads(int threads);

}  // namespace temper

#endif  // TOOLS_RUN_COMPUTE_H_
