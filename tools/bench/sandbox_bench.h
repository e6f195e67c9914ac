// How fast sandboxes are on this machine, beside what it can do at all. A run
// is a session from nothing to nothing: a slot's sandbox starts, runs one
// trivial cell, ends, and the slot is free.
//
// Times are of runs with a pause between them, so that the zygote has forked
// ahead, and, in turn with them, of bubblewrap running /usr/bin/true. Rates are
// of runs back to back, everything on one core, beside those of a bare zygote
// that forks, loads the same system call filter and runs the cell. On a busy
// machine only the ratios tell something.

#ifndef TOOLS_BENCH_SANDBOX_BENCH_H_
#define TOOLS_BENCH_SANDBOX_BENCH_H_

#include <string>

#include "absl/status/statusor.h"

namespace temper {

struct SandboxSpeed {
  std::string walls;  // which are up, for people
  double run_p50_ms = 0;
  double run_p95_ms = 0;
  double bwrap_p50_ms = 0;
  double runs_per_core = 0;  // a second
  double bare_runs_per_core = 0;
};

// `runs` > 0 of each kind. To be called before the process has threads, as
// SandboxSupervisor::Start, whose errors and SandboxPool::Create's it returns.
// Takes some 40 ms a run.
absl::StatusOr<SandboxSpeed> BenchSandbox(int runs);

}  // namespace temper

#endif  // TOOLS_BENCH_SANDBOX_BENCH_H_
