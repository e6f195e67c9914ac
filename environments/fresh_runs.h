// Runs of a candidate's code, each in a sandbox of its own that no code of a
// candidate has touched: what one run leaves, the next cannot find. What comes
// back are claims, to be compared outside with what never goes in.
//
// It takes a slot at the first run and holds it until it is destroyed or
// Released, for kFreshRunsHoldMax at most (step_limits.h), so that as many may
// grade at a time as may step. What the candidate does costs it alone (promise
// P5): a run, and the end of all that it left behind, count against run_max and
// runs_max; what is past them, or past run_count_max, is its TIMEOUT. Only a
// new sandbox is the machine's.

#ifndef ENVIRONMENTS_FRESH_RUNS_H_
#define ENVIRONMENTS_FRESH_RUNS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "environments/driver_exchange.h"
#include "environments/program.h"
#include "environments/sandbox.h"
#include "environments/step_limits.h"
#include "proto/task.pb.h"

namespace temper {

struct FreshRunsLimits {
  std::chrono::milliseconds run_max = kRunMax;
  std::chrono::milliseconds compile_max = kCompileMax;
  std::chrono::milliseconds runs_max = kRunsMax;
  int run_count_max = kRunCountMax;
  std::chrono::milliseconds starts_max = kStartsMax;  // while a slot is held
  std::chrono::milliseconds slot_max = kSlotWaitMax;
  size_t output_bytes_max = 1 << 20;  // more is cut
};

// What came of a run.
struct FreshRun {
  // OK: it came to its end. TOOL_ERROR: it raised, died, or forged a reply.
  // TIMEOUT: it went past a limit.
  Outcome outcome = OUTCOME_OK;
  ProgramLimit limit = ProgramLimit::kNone;
  std::string error;    // unless OK: why
  std::string printed;  // on stdout, and of a call on stderr
  std::string value;  // of a call, if OK: what it returned, as Python writes it
  // Of a program, if OK:
  int exit_code = 0;  // 128 and the signal's number, if one ended it
  std::string stderr_text;
  std::string artifact;
};

// Used by one thread at a time. `pool` must outlive it.
class FreshRuns {
 public:
  // `seed` seeds Python's `random` in a call.
  FreshRuns(SandboxPool* pool, uint64_t seed, const FreshRunsLimits& limits);

  // Runs `prelude` and `source` as a module, and then `expression`.
  // Unavailable, the machine's fault alone: no sandbox, or its keeper came to
  // harm. Nothing more is to be run then.
  absl::StatusOr<FreshRun> Call(const std::string& prelude,
                                const std::string& source,
                                const std::string& expression);
  // InvalidArgument if the snapshot does not fit.
  absl::StatusOr<FreshRun> Execute(const Program& program);
  // Execute, with the time that a compiler may take.
  absl::StatusOr<FreshRun> Compile(const Program& compiler);

  // Others may have the slot.
  void Release();

 private:
  using Duration = std::chrono::steady_clock::duration;

  absl::StatusOr<FreshRun> Run(DriverRequest request, const std::string& body,
                               Duration run_max);
  absl::StatusOr<FreshRun> RunProgram(const Program& program, Duration run_max);
  // A sandbox in sandbox_ that nothing ran in.
  absl::Status EnsureFresh();

  SandboxPool* const pool_;
  const uint64_t seed_;
  const FreshRunsLimits limits_;

  std::unique_ptr<Sandbox> sandbox_;
  bool used_ = false;    // sandbox_
  int count_ = 0;        // of runs
  Duration ran_{0};      // all runs and their ends
  Duration started_{0};  // the starts in this slot, but its first
};

}  // namespace temper

#endif  // ENVIRONMENTS_FRESH_RUNS_H_
