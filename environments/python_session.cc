#include "environments/python_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/text.h"
#include "kernels/base/signal_name.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kRestartLine[] = "%restart";

// Output beyond this is not even read; what the model sees is cut shorter.
constexpr size_t kPrintedBytesMax = 65 << 10;

// What a cell printed, cut as needed, then `last`, whole.
std::string Compose(const std::string& printed, const std::string& last,
                    size_t bytes_max) {
  const std::string end = SanitizeText(last, bytes_max);
  if (end.size() + 1 >= bytes_max) return end;
  std::string text = SanitizeText(printed, bytes_max - end.size() - 1);
  if (!text.empty() && !end.empty() && text.back() != '\n') text += '\n';
  return text + end;
}

ToolResult Refusal(Outcome outcome, const std::string& why) {
  ToolResult result;
  result.set_outcome(outcome);
  result.set_content(absl::StrCat("error: ", why));
  return result;
}

// Whether the first line of `source` is kRestartLine, blanks aside; then it is
// an empty one, so that those below keep their numbers.
bool TakeRestart(std::string* source) {
  const size_t end = std::min(source->find('\n'), source->size());
  if (TrimBlanks(source->substr(0, end)) != kRestartLine) return false;
  source->erase(0, end);
  return true;
}

// " by ...", " with ...", or nothing where it is not known.
std::string DescribeEnd(int exit_code) {
  if (exit_code > 128) {
    return absl::StrCat(" by ", DescribeSignal(exit_code - 128));
  }
  if (exit_code >= 0) return absl::StrCat(" with exit status ", exit_code);
  return "";
}

}  // namespace

PythonSession::PythonSession(SandboxPool* pool, uint64_t seed,
                             const PythonSessionLimits& limits)
    : pool_(pool), seed_(seed), limits_(limits) {}

PythonSession::~PythonSession() {
  if (ticket_ != 0) pool_->Unpark(ticket_).reset();
}

absl::StatusOr<DriverReply> PythonSession::Exchange(const Cell& cell,
                                                    SteadyTime deadline) {
  return AskDriver(sandbox_.get(), cell.request, seed_, cell.source, deadline);
}

absl::Status PythonSession::EnsureSandbox() {
  if (ticket_ != 0) sandbox_ = pool_->Unpark(std::exchange(ticket_, 0));
  if (sandbox_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(sandbox_, pool_->Start(std::chrono::steady_clock::now() +
                                          limits_.slot_max));
  // From here on, not from the wait for the slot: that is the machine's.
  const SteadyTime deadline =
      std::chrono::steady_clock::now() +
      std::min<std::chrono::steady_clock::duration>(
          kReplayFactor * cells_took_ + limits_.cell_max, limits_.replay_max);
  for (const Cell& cell : cells_) {
    // A cell that ran before and now does not is the candidate's doing too.
    RETURN_IF_ERROR(Exchange(cell, deadline).status());
    // The model has read what it printed when it ran first.
    sandbox_->TakeOutput(0);
  }
  return absl::OkStatus();
}

absl::StatusOr<ToolResult> PythonSession::RunIn(const Cell& cell) {
  using Duration = std::chrono::steady_clock::duration;
  const bool last = limits_.session_max - ran_ < limits_.cell_max;
  const Duration limit =
      std::min<Duration>(limits_.cell_max, limits_.session_max - ran_);
  const SteadyTime begin = std::chrono::steady_clock::now();
  const absl::StatusOr<DriverReply> ran = Exchange(cell, begin + limit);
  if (absl::IsUnavailable(ran.status())) return ran.status();
  const Duration took = std::chrono::steady_clock::now() - begin;
  ran_ += took;
  // Before anything is ended: what was printed until a death is told too.
  const std::string printed = sandbox_->TakeOutput(kPrintedBytesMax);
  if (!ran.ok()) return Lose(ran.status(), printed, last);
  // One that raised belongs to them as well: it may have changed the state.
  cells_.push_back(cell);
  cells_took_ += took;
  ToolResult result;
  result.set_outcome(ran->raised ? OUTCOME_TOOL_ERROR : OUTCOME_OK);
  result.set_content(Compose(printed, ran->text, limits_.output_bytes_max));
  return result;
}

ToolResult PythonSession::Lose(const absl::Status& why,
                               const std::string& printed, bool last) {
  std::string text;
  if (absl::IsDeadlineExceeded(why) && last) {
    text = absl::StrCat("the session's cells ran for ",
                        limits_.session_max.count(), " ms in all, its limit");
  } else if (absl::IsDeadlineExceeded(why)) {
    text = absl::StrCat("no result after ", limits_.cell_max.count(), " ms");
  } else if (absl::IsAborted(why)) {
    text = absl::StrCat("the Python process died",
                        DescribeEnd(sandbox_->ExitCode()));
  } else {
    text = "the cell wrote on the session's own socket";
  }
  // Only now: the exit code was the sandbox's to tell.
  sandbox_.reset();
  cells_.clear();
  cells_took_ = {};
  lost_ = true;
  ToolResult result;
  result.set_outcome(absl::IsDeadlineExceeded(why) ? OUTCOME_TIMEOUT
                                                   : OUTCOME_TOOL_ERROR);
  result.set_content(Compose(
      printed,
      absl::StrCat("error: ", text, "; the session was ended (a first line ",
                   kRestartLine, " ends it and keeps its files)"),
      limits_.output_bytes_max));
  return result;
}

absl::StatusOr<ToolResult> PythonSession::RunOnce(const std::string& source,
                                                  bool restart) {
  const absl::Status ready = EnsureSandbox();
  if (absl::IsUnavailable(ready)) return ready;
  if (!ready.ok()) return Lose(ready, "", /*last=*/false);
  const Cell cell{.source = source};
  if (!restart) return RunIn(cell);
  // What of a restart ran is among the session's cells.
  ASSIGN_OR_RETURN(ToolResult result,
                   RunIn({.request = DriverRequest::kRestart}));
  if (result.outcome() != OUTCOME_OK) return result;
  if (!TrimBlanks(source).empty()) return RunIn(cell);
  result.set_content("the session was restarted; its files are kept");
  return result;
}

absl::StatusOr<ToolResult> PythonSession::Run(const std::string& source) {
  if (lost_) {
    return Refusal(OUTCOME_TOOL_ERROR,
                   "not run, for an earlier call of this turn ended the "
                   "session");
  }
  if (cells_run_ >= limits_.cells_max) {
    return Refusal(OUTCOME_TOOL_ERROR,
                   absl::StrCat("the session has run ", limits_.cells_max,
                                " cells, its limit"));
  }
  if (ran_ >= limits_.session_max) {
    return Refusal(
        OUTCOME_TIMEOUT,
        absl::StrCat("the session's cells have run for ",
                     limits_.session_max.count(), " ms in all, its limit"));
  }
  // Counted before it runs: a cell that ends the session is one of them.
  ++cells_run_;
  std::string cell = source;
  const bool restart = TakeRestart(&cell);
  if (restart && restarts_ >= limits_.restarts_max) {
    return Refusal(OUTCOME_TOOL_ERROR,
                   absl::StrCat("not run, for the session was restarted ",
                                limits_.restarts_max, " times, its limit"));
  }
  restarts_ += restart ? 1 : 0;
  absl::StatusOr<ToolResult> result = RunOnce(cell, restart);
  // One that came to harm is like one that gave way to others: a new one runs
  // the session's cells again.
  if (absl::IsUnavailable(result.status()) && sandbox_ != nullptr) {
    sandbox_.reset();
    result = RunOnce(cell, restart);
  }
  return result;
}

void PythonSession::EndStep() {
  lost_ = false;
  if (sandbox_ != nullptr) ticket_ = pool_->Park(std::move(sandbox_));
}

}  // namespace temper
