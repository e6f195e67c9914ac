// The backend a verb computes with: the tier that TEMPER_ISA names or the best
// there is, and so many threads.

#ifndef TOOLS_RUN_COMPUTE_H_
#define TOOLS_RUN_COMPUTE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/find_backend.h"
#include "kernels/ops/backend.h"

namespace temper {

// `threads` 0 stands for this machine's cores. The calling thread must have the
// float mode that main sets.
absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(int threads);

// What the backend above would use, and why: "avx2", "named by TEMPER_ISA".
absl::StatusOr<BackendChoice> ChooseComputeBackend();

// From now on this process and its children compute on the backend of this
// name. Not while another thread runs.
void HandDownBackend(const std::string& name);

int ComputeThreads(int threads);

}  // namespace temper

#endif  // TOOLS_RUN_COMPUTE_H_
