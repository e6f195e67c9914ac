// A Python session of one episode: cells run one after another in one name
// space, in a sandbox that never sees anything else of the episode.
//
// Its process is the first of its pid namespace: signals that it sends itself
// do nothing unless it handles them.
//
// It holds its sandbox from a Step's first cell to the Step's end. Between two
// Steps nothing of it runs, and it may lose the sandbox: to others, because a
// cell left threads or processes behind, or because it died there (sandbox.h).
// It then gets a new one and runs its earlier cells again, unseen. So state
// lives on, and a cell must not care how often it ran: there is no network and
// no file that outlives the sandbox for it to change. The clock and os.urandom
// are not repeatable; `random` is seeded and the hash seed is fixed.
//
// A cell whose first line is %restart has a new Python in the place of the old
// one: variables, modules, threads and what was done to Python itself are gone,
// files are kept. What follows that line runs in the new one.
//
// A machine that is slower the second time must not be charged to the
// candidate, and a candidate must not be able to seem a slow machine
// (promise P5). So a replay may take several times what its cells took at
// first; one that takes longer still is the candidate's doing. And what cells
// take is bounded over the session, so that no Step outlasts its caller's
// patience (step_limits.h).

#ifndef ENVIRONMENTS_PYTHON_SESSION_H_
#define ENVIRONMENTS_PYTHON_SESSION_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/driver_exchange.h"
#include "environments/sandbox.h"
#include "environments/step_limits.h"
#include "proto/task.pb.h"

namespace temper {

struct PythonSessionLimits {
  std::chrono::milliseconds cell_max = kCellMax;
  std::chrono::milliseconds session_max = kSessionMax;
  std::chrono::milliseconds replay_max = kReplayMax;
  std::chrono::milliseconds slot_max = kSlotWaitMax;
  uint32_t output_bytes_max = 8 << 10;
  uint32_t cells_max = 32;    // of a session
  uint32_t restarts_max = 4;  // likewise, each a cell too
};

// Used by one thread at a time. `pool` must outlive it.
class PythonSession {
 public:
  // `seed` seeds Python's `random` where a cell uses it.
  PythonSession(SandboxPool* pool, uint64_t seed,
                const PythonSessionLimits& limits);
  ~PythonSession();
  PythonSession(const PythonSession&) = delete;
  PythonSession& operator=(const PythonSession&) = delete;

  // Runs `source`, as part of the present Step, and returns what it printed and
  // the value of its last expression:
  //   OK          it ran;
  //   TOOL_ERROR  it raised (output, then the exception's type, text and line),
  //               or its process died, or cells_max or restarts_max is
  //               reached;
  //   TIMEOUT     it ran past cell_max, or the session's cells past
  //               session_max; or earlier cells, run again, took cell_max more
  //               than kReplayFactor times what they took at first.
  // After a death or a timeout the state is lost, files with it; the text has
  // what was printed until then, and says so. Further cells of the Step,
  // written for that state, are TOOL_ERROR and not run; the next Step's first
  // starts afresh. Unavailable, the machine's fault alone: no sandbox, or a
  // second one whose keeper came to harm.
  absl::StatusOr<ToolResult> Run(const std::string& source);

  // Ends the Step, if one began: others may have the sandbox's slot. To be
  // called before a Step returns.
  void EndStep();

 private:
  struct Cell {
    DriverRequest request = DriverRequest::kCell;  // or kRestart
    std::string source;
  };

  // Sends one cell and reads its reply by `deadline`; fails as AskDriver.
  absl::StatusOr<DriverReply> Exchange(const Cell& cell, SteadyTime deadline);
  // A sandbox in sandbox_ with all of cells_ run in it.
  absl::Status EnsureSandbox();
  // Runs a cell in sandbox_ and notes what came of it. Unavailable, with
  // nothing noted: the sandbox is gone by no doing of the cell's.
  absl::StatusOr<ToolResult> RunIn(const Cell& cell);
  // Runs `source` in a sandbox, in a new Python if `restart`. As RunIn.
  absl::StatusOr<ToolResult> RunOnce(const std::string& source, bool restart);
  // What to tell of a state that `why` lost, and forgets it. `last`: the cell
  // had the rest of the session's time.
  ToolResult Lose(const absl::Status& why, const std::string& printed,
                  bool last);

  SandboxPool* const pool_;
  const uint64_t seed_;
  const PythonSessionLimits limits_;

  uint32_t cells_run_ = 0;
  uint32_t restarts_ = 0;
  std::chrono::steady_clock::duration ran_{0};  // all of them, at first
  std::vector<Cell> cells_;                     // what made the present state
  std::chrono::steady_clock::duration cells_took_{0};  // they alone, at first
  bool lost_ = false;                 // the state, in the present Step
  std::unique_ptr<Sandbox> sandbox_;  // in a Step
  uint64_t ticket_ = 0;               // of the sandbox parked between, or 0
};

}  // namespace temper

#endif  // ENVIRONMENTS_PYTHON_SESSION_H_
