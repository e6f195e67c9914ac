#include "environments/python_session.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/python_driver.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

ToolResult Refusal(Outcome outcome, const std::string& why) {
  ToolResult result;
  result.set_outcome(outcome);
  result.set_content(absl::StrCat("error: ", why));
  return result;
}

}  // namespace

PythonSession::PythonSession(SandboxPool* pool, uint64_t seed,
                             const PythonSessionLimits& limits)
    : pool_(pool), seed_(seed), limits_(limits) {}

PythonSession::~PythonSession() {
  if (ticket_ != 0) pool_->Unpark(ticket_).reset();
}

absl::Status PythonSession::Exchange(const std::string& source,
                                     SteadyTime deadline, uint8_t* status,
                                     std::string* output) {
  std::string request(12, '\0');
  const uint32_t source_bytes = static_cast<uint32_t>(source.size());
  memcpy(request.data(), &source_bytes, 4);
  memcpy(request.data() + 4, &seed_, 8);
  request += source;
  RETURN_IF_ERROR(sandbox_->Write(request.data(), request.size(), deadline));
  char header[5];
  RETURN_IF_ERROR(sandbox_->Read(header, sizeof(header), deadline));
  uint32_t output_bytes;
  memcpy(&output_bytes, header + 1, 4);
  *status = static_cast<uint8_t>(header[0]);
  // Above what the driver sends, the cell writes on its socket itself.
  if (output_bytes > 2 * kPythonOutputBytesMax || *status > 1) {
    return absl::AbortedError("the cell broke the session");
  }
  output->resize(output_bytes);
  return sandbox_->Read(output->data(), output_bytes, deadline);
}

absl::Status PythonSession::EnsureSandbox() {
  if (ticket_ != 0) sandbox_ = pool_->Unpark(std::exchange(ticket_, 0));
  if (sandbox_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(sandbox_, pool_->Start(std::chrono::steady_clock::now() +
                                          limits_.slot_max));
  const SteadyTime deadline =
      std::chrono::steady_clock::now() +
      std::min<std::chrono::steady_clock::duration>(
          kReplayFactor * cells_took_ + limits_.cell_max, limits_.replay_max);
  for (const std::string& cell : cells_) {
    uint8_t status;
    std::string output;
    // A cell that ran before and now does not is the candidate's doing too.
    RETURN_IF_ERROR(Exchange(cell, deadline, &status, &output));
  }
  return absl::OkStatus();
}

ToolResult PythonSession::RunIn(absl::Status ran, const std::string& source) {
  using Duration = std::chrono::steady_clock::duration;
  const bool last =
      ran.ok() && limits_.session_max - ran_ < limits_.cell_max;
  uint8_t status = 0;
  std::string output;
  Duration took{0};
  if (ran.ok()) {
    const SteadyTime begin = std::chrono::steady_clock::now();
    const Duration limit =
        std::min<Duration>(limits_.cell_max, limits_.session_max - ran_);
    ran = Exchange(source, begin + limit, &status, &output);
    took = std::chrono::steady_clock::now() - begin;
    ran_ += took;
  }
  if (ran.ok()) {
    cells_.push_back(source);
    cells_took_ += took;
    ToolResult result;
    result.set_outcome(status == 0 ? OUTCOME_OK : OUTCOME_TOOL_ERROR);
    result.set_content(SanitizeText(output, limits_.output_bytes_max));
    return result;
  }
  sandbox_.reset();
  cells_.clear();
  cells_took_ = {};
  lost_ = true;
  if (!absl::IsDeadlineExceeded(ran)) {
    return Refusal(OUTCOME_TOOL_ERROR,
                   "the Python process died; the session was ended");
  }
  return Refusal(
      OUTCOME_TIMEOUT,
      last ? absl::StrCat("the session's cells ran for ",
                          limits_.session_max.count(),
                          " ms in all, its limit; the session was ended")
           : absl::StrCat("no result after ", limits_.cell_max.count(),
                          " ms; the session was ended"));
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
    return Refusal(OUTCOME_TIMEOUT,
                   absl::StrCat("the session's cells have run for ",
                                limits_.session_max.count(),
                                " ms in all, its limit"));
  }
  ++cells_run_;
  const absl::Status ready = EnsureSandbox();
  if (absl::IsUnavailable(ready)) return ready;
  return RunIn(ready, source);
}

void PythonSession::EndStep() {
  lost_ = false;
  if (sandbox_ != nullptr) ticket_ = pool_->Park(std::move(sandbox_));
}

}  // namespace temper
