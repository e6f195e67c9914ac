#include "environments/fresh_runs.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "environments/sandbox_keeper.h"
#include "kernels/base/signal_name.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

std::string DescribeDeath(int exit_code) {
  if (exit_code > 128) {
    return absl::StrCat("its process died by ",
                        DescribeSignal(exit_code - 128));
  }
  if (exit_code < 0) return "its process died";
  return absl::StrCat("its process ended with exit status ", exit_code);
}

// The first limit of a run whose session ran into `hit`, bits of SessionLimit.
ProgramLimit FirstLimit(Outcome outcome, uint32_t hit, bool cut) {
  if (outcome == OUTCOME_TIMEOUT) return ProgramLimit::kTime;
  if ((hit & kMemoryLimit) != 0) return ProgramLimit::kMemory;
  if (cut) return ProgramLimit::kOutput;
  if ((hit & kProcessesLimit) != 0) return ProgramLimit::kProcesses;
  return ProgramLimit::kNone;
}

}  // namespace

FreshRuns::FreshRuns(SandboxPool* pool, uint64_t seed,
                     const FreshRunsLimits& limits)
    : pool_(pool), seed_(seed), limits_(limits) {}

void FreshRuns::Release() {
  sandbox_.reset();
  started_ = Duration(0);
}

absl::Status FreshRuns::EnsureFresh() {
  const SteadyTime begin = std::chrono::steady_clock::now();
  if (sandbox_ == nullptr) {
    ASSIGN_OR_RETURN(sandbox_, pool_->Start(begin + limits_.slot_max));
    used_ = false;
  }
  if (!used_) return absl::OkStatus();
  ASSIGN_OR_RETURN(sandbox_,
                   pool_->Renew(std::move(sandbox_), begin + limits_.slot_max));
  used_ = false;
  started_ += std::chrono::steady_clock::now() - begin;
  if (started_ <= limits_.starts_max) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("new sandboxes took ", limits_.starts_max.count(),
                   " ms in all: the machine is too slow or too busy"));
}

absl::StatusOr<FreshRun> FreshRuns::Run(DriverRequest request,
                                        const std::string& body,
                                        Duration run_max) {
  FreshRun run;
  if (ran_ >= limits_.runs_max || count_ >= limits_.run_count_max) {
    run.outcome = OUTCOME_TIMEOUT;
    run.limit = ProgramLimit::kTime;
    run.error = absl::StrCat("not run: there were ", count_, " runs of ",
                             limits_.run_count_max, " and of ",
                             limits_.runs_max.count(), " ms at most");
    return run;
  }
  ++count_;
  RETURN_IF_ERROR(EnsureFresh());
  used_ = true;
  const SteadyTime begin = std::chrono::steady_clock::now();
  const Duration limit = std::min<Duration>(run_max, limits_.runs_max - ran_);
  absl::StatusOr<DriverReply> reply =
      AskDriver(sandbox_.get(), request, seed_, body, begin + limit);
  if (absl::IsUnavailable(reply.status())) return reply.status();
  run.printed = sandbox_->TakeOutput(limits_.output_bytes_max + 1);
  const bool cut = run.printed.size() > limits_.output_bytes_max;
  if (cut) run.printed.pop_back();
  if (reply.ok() && !reply->raised) {
    run.value = std::move(reply->text);
  } else if (absl::IsDeadlineExceeded(reply.status())) {
    run.outcome = OUTCOME_TIMEOUT;
    run.error = absl::StrCat(
        "no result after ",
        std::chrono::duration_cast<std::chrono::milliseconds>(limit).count(),
        " ms");
  } else {
    run.outcome = OUTCOME_TOOL_ERROR;
    run.error = reply.ok() ? reply->text
                : absl::IsAborted(reply.status())
                    ? DescribeDeath(sandbox_->ExitCode())
                    : "the code wrote on its driver's socket";
  }
  // What it left behind is ended at its expense.
  sandbox_->End();
  run.limit = FirstLimit(run.outcome, sandbox_->limits_hit(), cut);
  ran_ += std::chrono::steady_clock::now() - begin;
  return run;
}

absl::StatusOr<FreshRun> FreshRuns::Call(const std::string& prelude,
                                         const std::string& source,
                                         const std::string& expression) {
  return Run(DriverRequest::kCall, JoinParts({prelude, source, expression}),
             limits_.run_max);
}

absl::StatusOr<FreshRun> FreshRuns::Execute(const Program& program) {
  return RunProgram(program, limits_.run_max);
}

absl::StatusOr<FreshRun> FreshRuns::Compile(const Program& compiler) {
  return RunProgram(compiler, limits_.compile_max);
}

absl::StatusOr<FreshRun> FreshRuns::RunProgram(const Program& program,
                                               Duration run_max) {
  RETURN_IF_ERROR(CheckFits(program, pool_->supervisor().limits()));
  ASSIGN_OR_RETURN(FreshRun run, Run(DriverRequest::kProgram,
                                     EncodeProgram(program), run_max));
  if (run.outcome != OUTCOME_OK) return run;
  auto told = SplitParts(run.value, 4);
  run.value.clear();
  if (!told.ok() || !absl::SimpleAtoi((*told)[0], &run.exit_code)) {
    run.outcome = OUTCOME_TOOL_ERROR;
    run.error = "the program wrote on its driver's socket";
    return run;
  }
  run.stderr_text = std::move((*told)[1]);
  run.artifact = std::move((*told)[2]);
  // What the scratch has room for; a fork that was refused says less.
  const std::string& room = (*told)[3];
  if (run.limit != ProgramLimit::kNone &&
      run.limit != ProgramLimit::kProcesses) {
    return run;
  }
  if (absl::StartsWith(room, "0 ")) {
    run.limit = ProgramLimit::kBytes;
  } else if (absl::EndsWith(room, " 0")) {
    run.limit = ProgramLimit::kFiles;
  }
  return run;
}

}  // namespace temper
