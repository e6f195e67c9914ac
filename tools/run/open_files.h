// Whether this process may have as many files open as those of a run, which
// inherit its limit, come to have. A function without state.

#ifndef TOOLS_RUN_OPEN_FILES_H_
#define TOOLS_RUN_OPEN_FILES_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace temper {

// How many; ResourceExhausted, with what to type, where they are too few:
// gRPC and ZeroMQ end a process that finds none left.
absl::StatusOr<uint64_t> OpenFilesMax();

}  // namespace temper

#endif  // TOOLS_RUN_OPEN_FILES_H_
